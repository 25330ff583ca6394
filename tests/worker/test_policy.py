"""What becomes of an attempt."""

import pytest
from made import cut, generation, malformed

from mh_batch.jobs.generation import Generation, StopReason
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.policy import (
    GUIDANCE,
    Accept,
    GiveUp,
    Retry,
    RetryReason,
    best,
    decide,
    plan,
)

SAMPLING = Sampling(max_tokens=100, temperature=0.7)


def test_a_well_formed_answer_is_accepted() -> None:
    assert decide(generation(), 1, 3) == Accept()


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (cut(), RetryReason.LENGTH),
        (malformed(), RetryReason.MALFORMED),
        (generation("", problems=("empty_final",)), RetryReason.EMPTY_FINAL),
        # a cut answer may read as well formed: what ended the stream counts first
        (generation(stop=StopReason.MAX_TOKENS), RetryReason.LENGTH),
    ],
)
def test_every_fault_is_tried_again_until_the_attempts_run_out(
    outcome: Generation, reason: RetryReason
) -> None:
    assert decide(outcome, 1, 3) == Retry(reason)
    assert decide(outcome, 2, 3) == Retry(reason)
    assert decide(outcome, 3, 3) == GiveUp(reason)


def test_the_first_attempt_runs_with_the_users_settings() -> None:
    assert plan(SAMPLING, []).sampling == SAMPLING
    assert plan(SAMPLING, []).guidance is None


def test_running_out_of_room_earns_a_larger_budget_and_then_guidance() -> None:
    first = plan(SAMPLING, [RetryReason.LENGTH])
    assert (first.sampling.max_tokens, first.guidance) == (125, None)
    second = plan(SAMPLING, [RetryReason.LENGTH, RetryReason.LENGTH])
    assert second.sampling.max_tokens == 156
    assert second.guidance == GUIDANCE[RetryReason.LENGTH]


def test_a_malformed_answer_earns_guidance_and_no_larger_budget() -> None:
    attempt = plan(SAMPLING, [RetryReason.MALFORMED])
    assert attempt.sampling == SAMPLING
    assert attempt.guidance == GUIDANCE[RetryReason.MALFORMED]


@pytest.mark.parametrize("reason", RetryReason)
def test_there_is_guidance_for_every_reason(reason: RetryReason) -> None:
    assert GUIDANCE[reason]


def test_the_attempt_kept_is_the_one_with_an_answer_then_the_whole_one_then_the_first() -> None:
    cut_with_answer = generation("half", problems=("truncated",), stop=StopReason.MAX_TOKENS)
    assert best([cut(), malformed(), cut_with_answer]) == 1
    assert best([cut(), cut_with_answer]) == 1
    assert best([malformed(), malformed()]) == 0
    assert best([cut(), cut()]) == 0
