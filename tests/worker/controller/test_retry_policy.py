"""What becomes of an attempt."""

from typing import Any

import msgspec
import pytest

from helpers.made import cut, generation, malformed, stuck
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.generation import Generation, StopReason
from mh_batch.jobs.settings import MAX_REPETITION_PENALTY, MOST, Sampling
from mh_batch.worker.controller.retry_policy import (
    CHANGES,
    Accept,
    Continue,
    Failure,
    GiveUp,
    Plan,
    Retry,
    RetryReason,
    best,
    decide,
    plan,
)

SAMPLING = Sampling(max_tokens=100, temperature=0.7)
SCRATCH = Plan(SAMPLING)
GOES_ON = Plan(SAMPLING, continues=True)
FORCED_FINAL = Plan(SAMPLING, forced_final=True)


def test_a_well_formed_answer_is_accepted() -> None:
    assert decide(generation(), SCRATCH, 1, 3) == Accept()


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (malformed(), RetryReason.MALFORMED),
        (generation("", problems=("empty_final",)), RetryReason.EMPTY_FINAL),
        (generation(stop=StopReason.LOOP_DETECTED), RetryReason.LOOP_DETECTED),
        (generation(problems=("unknown_tool",), call="f"), RetryReason.BAD_CALL),
        (generation(problems=("missing_argument",), call="f"), RetryReason.BAD_CALL),
        (generation(problems=("bad_arguments", "two_finals"), call="f"), RetryReason.MALFORMED),
        (generation("the same again, " * 200), RetryReason.REPETITION),
        (generation("Fine.", analysis="so on and " * 200), RetryReason.REPETITION),
        (generation("5", problems=("form_violated",)), RetryReason.REJECTED),
        (
            generation(problems=("truncated",), stop=StopReason.CONSTRAINT_FAILED),
            RetryReason.CONSTRAINT_FAILED,
        ),
    ],
)
def test_every_fault_is_tried_again_until_the_attempts_run_out(
    outcome: Generation, reason: RetryReason
) -> None:
    for planned in (SCRATCH, GOES_ON):
        assert decide(outcome, planned, 1, 3) == Retry(reason)
        assert decide(outcome, planned, 2, 3) == Retry(reason)
        assert decide(outcome, planned, 3, 3) == GiveUp(reason)


# a cut answer may read as well formed: what ended the stream counts first
@pytest.mark.parametrize("outcome", [cut(), generation(stop=StopReason.MAX_TOKENS)])
def test_what_was_cut_is_gone_on_with_once_outside_of_the_cap(outcome: Generation) -> None:
    assert [decide(outcome, SCRATCH, n, 3) for n in (1, 3)] == [Continue(), Continue()]
    assert decide(outcome, GOES_ON, 2, 3) == Retry(RetryReason.LENGTH)
    assert decide(outcome, GOES_ON, 3, 3) == GiveUp(RetryReason.LENGTH)


def test_a_rescue_that_was_cut_is_not_gone_on_with() -> None:
    assert decide(cut(), FORCED_FINAL, 3, 3) == GiveUp(RetryReason.LENGTH)


@pytest.mark.parametrize(("room", "decision"), [(50, Continue()), (49, Retry(RetryReason.LENGTH))])
def test_what_was_cut_starts_from_scratch_where_the_context_has_no_room_for_half_as_much(
    room: int, decision: object
) -> None:
    assert decide(msgspec.structs.replace(cut(), room=room), SCRATCH, 1, 3) == decision


def test_what_goes_on_from_a_cut_answer_runs_as_that_one_did_for_half_as_many_tokens() -> None:
    loop, cut_off = (
        Failure(RetryReason.LOOP_DETECTED),
        Failure(RetryReason.LENGTH, continuable=True),
    )
    first = plan(SAMPLING, [cut_off], 3)
    assert first == Plan(SAMPLING, continues=True)
    assert (SCRATCH.max_tokens, first.max_tokens) == (100, 50)
    before = plan(SAMPLING, [loop], 3)
    assert before.guidance
    second = plan(SAMPLING, [loop, cut_off], 3)
    assert second == msgspec.structs.replace(before, continues=True)


def test_the_least_that_may_be_drawn_is_cut_and_gone_on_with_too() -> None:
    assert Plan(Sampling(max_tokens=1), continues=True).max_tokens == 1


def test_the_first_attempt_runs_with_the_users_settings() -> None:
    assert plan(SAMPLING, [], 5).sampling == SAMPLING
    assert plan(SAMPLING, [], 5).guidance is None


def test_running_out_of_room_for_good_earns_a_larger_budget_and_guidance() -> None:
    length = Failure(RetryReason.LENGTH)
    first = plan(SAMPLING, [length], 5)
    assert (first.sampling.max_tokens, first.continues) == (125, False)
    assert first.guidance == CHANGES[RetryReason.LENGTH].guidance
    second = plan(SAMPLING, [length, length], 5)
    assert (second.sampling.max_tokens, second.guidance) == (156, first.guidance)


def test_a_budget_grows_no_further_than_a_setting_may_be() -> None:
    failures = [Failure(RetryReason.LENGTH)] * 99
    for asked in (100, MOST):
        grown = plan(Sampling(max_tokens=asked), failures, 100).sampling
        assert grown.max_tokens == MOST
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(grown), type=Sampling) == grown


def test_a_loop_earns_a_penalty_over_a_longer_window_full_detection_and_guidance() -> None:
    loop = Failure(RetryReason.LOOP_DETECTED)
    first = plan(SAMPLING, [loop], 5)
    assert first.sampling.repetition_penalty == pytest.approx(1.1)
    assert first.sampling.repetition_window == 512
    assert first.sampling.loop_detection == "full"
    assert first.guidance == CHANGES[RetryReason.LOOP_DETECTED].guidance
    assert plan(SAMPLING, [loop, loop], 5).sampling.repetition_penalty == pytest.approx(1.21)


def test_a_retry_never_lowers_what_the_user_asked_for() -> None:
    asked = Sampling(repetition_penalty=1.5, repetition_window=4096)
    changed = plan(asked, [Failure(RetryReason.LOOP_DETECTED)], 5).sampling
    assert changed.repetition_penalty > 1.5
    assert changed.repetition_window == 4096


def test_a_malformed_answer_earns_guidance_and_no_larger_budget() -> None:
    attempt = plan(SAMPLING, [Failure(RetryReason.MALFORMED)], 5)
    assert attempt.sampling == SAMPLING
    assert attempt.guidance == CHANGES[RetryReason.MALFORMED].guidance


@pytest.mark.parametrize("reason", RetryReason)
def test_there_is_guidance_for_every_reason(reason: RetryReason) -> None:
    assert CHANGES[reason].guidance


def test_the_attempt_kept_is_the_one_with_an_answer_then_the_whole_one_then_the_first() -> None:
    cut_with_answer = generation("half", problems=("truncated",), stop=StopReason.MAX_TOKENS)
    assert best([cut(), malformed(), cut_with_answer]) == 1
    assert best([cut(), cut_with_answer]) == 1
    assert best([malformed(), malformed()]) == 0
    assert best([cut(), cut()]) == 0


def test_of_answers_that_ran_out_of_room_the_longest_is_kept() -> None:
    stop = StopReason.MAX_TOKENS
    answers = [generation(text, problems=("x",), stop=stop) for text in ("1,", "1, 2,", "1, 2")]
    assert best(answers) == 1


def test_of_thoughts_that_were_cut_the_longest_are_kept() -> None:
    stop, problems = StopReason.MAX_TOKENS, ("truncated", "analysis_not_ended")
    thoughts = [
        generation(None, text, problems=problems, stop=stop) for text in ("so", "so on", "so")
    ]
    assert best(thoughts) == 1


STUCK = Failure(RetryReason.LENGTH, stuck=True)


def test_the_last_attempt_goes_on_from_an_analysis_that_never_ended() -> None:
    assert not plan(SAMPLING, [STUCK], 3).forced_final
    forced = plan(SAMPLING, [STUCK, STUCK], 3)
    # the turn's own prompt, and the budget the user gave an answer
    assert (forced.forced_final, forced.guidance, forced.sampling) == (True, None, SAMPLING)
    assert plan(SAMPLING, [STUCK], 2).forced_final


def test_an_analysis_that_was_cut_is_gone_on_with_before_it_is_rescued() -> None:
    thinking = msgspec.structs.replace(STUCK, continuable=True)
    assert plan(SAMPLING, [thinking], 2) == GOES_ON
    assert not plan(SAMPLING, [STUCK, thinking], 3).forced_final


def test_a_rescue_after_a_loop_keeps_what_is_against_loops() -> None:
    loop = Failure(RetryReason.LOOP_DETECTED, stuck=True)
    sampling = plan(SAMPLING, [loop, loop], 3).sampling
    assert sampling.loop_detection == "full"
    assert sampling.repetition_penalty == pytest.approx(1.21)


@pytest.mark.parametrize("last", [Failure(RetryReason.MALFORMED), Failure(RetryReason.LENGTH)])
def test_there_is_nothing_to_rescue_where_the_last_failure_was_another(last: Failure) -> None:
    assert not plan(SAMPLING, [STUCK, last], 3).forced_final


def test_repetition_in_the_text_is_treated_as_a_loop_of_tokens_is() -> None:
    assert CHANGES[RetryReason.REPETITION] == CHANGES[RetryReason.LOOP_DETECTED]


def test_an_answer_is_not_repetition_when_it_is_malformed_in_the_first_place() -> None:
    both = generation("the same again, " * 200, problems=("two_finals",))
    assert decide(both, SCRATCH, 1, 3) == Retry(RetryReason.MALFORMED)


def test_a_stuck_analysis_that_runs_out_of_attempts_is_kept_as_the_worst_there_is() -> None:
    assert best([stuck(), malformed(), stuck()]) == 1


def test_an_answer_may_repeat_itself_where_nobody_watches_for_loops() -> None:
    again = generation("the same again, " * 200)
    assert decide(again, SCRATCH, 1, 3, repetition=False) == Accept()


def test_a_rescue_is_not_judged_by_the_thoughts_that_it_was_given() -> None:
    circles = generation("Fine.", analysis="so on and " * 200)
    given = msgspec.structs.replace(circles, response_prefill=(1,))
    assert decide(given, FORCED_FINAL, 3, 3) == Accept()
    # one that went on from its own thoughts is, and so is one that was given none
    assert decide(given, GOES_ON, 3, 3) == GiveUp(RetryReason.REPETITION)
    assert decide(circles, FORCED_FINAL, 3, 3) == GiveUp(RetryReason.REPETITION)


COUNTED = tuple(token for n in range(200) for token in (*range(500, 514), 1000 + n))
"""The ids of one sentence with a counter in it, again and again."""


@pytest.mark.parametrize("stop", [StopReason.MAX_TOKENS, StopReason.STOP_TOKEN])
def test_a_near_repetition_is_a_loop_if_it_ran_out_of_room_and_not_if_it_ended(
    stop: StopReason,
) -> None:
    circles = msgspec.structs.replace(generation(stop=stop), tokens=COUNTED)
    at_its_end = stop is StopReason.STOP_TOKEN
    for planned in (SCRATCH, GOES_ON):
        decision = decide(circles, planned, 1, 3)
        assert decision == (Accept() if at_its_end else Retry(RetryReason.LOOP_DETECTED))


@pytest.mark.parametrize(
    "tokens", [COUNTED[:1500], (*COUNTED, *range(2000, 2200)), tuple(range(3000)), (5,) * 300]
)
def test_what_ran_out_of_room_otherwise_is_no_loop(tokens: tuple[int, ...]) -> None:
    long = msgspec.structs.replace(generation(stop=StopReason.MAX_TOKENS), tokens=tokens)
    assert decide(long, SCRATCH, 1, 3) == Continue()
    assert decide(long, GOES_ON, 1, 3) == Retry(RetryReason.LENGTH)


def test_what_an_attempt_goes_on_from_counts_to_its_loop() -> None:
    cut = generation(stop=StopReason.MAX_TOKENS)
    halves = msgspec.structs.replace(
        cut, response_prefill=COUNTED[:1500], tokens=COUNTED[1500:2500]
    )
    assert decide(halves, GOES_ON, 1, 3) == Retry(RetryReason.LOOP_DETECTED)


def test_a_loop_that_nobody_watches_for_only_ran_out_of_room() -> None:
    long = msgspec.structs.replace(generation(stop=StopReason.MAX_TOKENS), tokens=COUNTED)
    assert decide(long, SCRATCH, 1, 3, repetition=False) == Continue()


def test_no_number_of_loops_takes_the_penalty_out_of_its_range() -> None:
    loops = [Failure(RetryReason.LOOP_DETECTED)] * 40
    changed = plan(SAMPLING, loops, 100).sampling
    assert changed.repetition_penalty == MAX_REPETITION_PENALTY
    assert msgspec.convert(msgspec.to_builtins(changed), Sampling) == changed


HALF = generation('{"a": 1', problems=("truncated", "incomplete_form"), stop=StopReason.MAX_TOKENS)


def test_what_was_cut_inside_its_form_is_gone_on_with_and_then_gets_more_room() -> None:
    assert decide(HALF, SCRATCH, 3, 3) == Continue(RetryReason.INCOMPLETE_FORM)
    assert decide(HALF, GOES_ON, 2, 3) == Retry(RetryReason.INCOMPLETE_FORM)
    assert decide(HALF, GOES_ON, 3, 3) == GiveUp(RetryReason.INCOMPLETE_FORM)
    first = plan(SAMPLING, [Failure(RetryReason.INCOMPLETE_FORM, continuable=True)], 3)
    assert first == Plan(SAMPLING, continues=True)
    again = plan(SAMPLING, [Failure(RetryReason.INCOMPLETE_FORM)], 3)
    assert again.sampling.max_tokens == 125
    assert again.guidance == CHANGES[RetryReason.INCOMPLETE_FORM].guidance


def test_a_form_that_has_to_repeat_itself_is_no_loop_where_it_is_cut() -> None:
    long = msgspec.structs.replace(HALF, tokens=COUNTED)
    assert decide(long, SCRATCH, 1, 3) == Continue(RetryReason.INCOMPLETE_FORM)


def test_a_constraint_that_failed_is_no_reason_to_go_on_or_for_more_room() -> None:
    failed = generation("x", problems=("truncated",), stop=StopReason.CONSTRAINT_FAILED)
    assert decide(failed, SCRATCH, 1, 3) == Retry(RetryReason.CONSTRAINT_FAILED)
    assert plan(SAMPLING, [Failure(RetryReason.CONSTRAINT_FAILED)], 3).sampling == SAMPLING


ZEROS = "[" + ", ".join(["0"] * 600) + "]"


def test_of_an_answer_in_json_only_the_texts_in_it_must_not_repeat_themselves() -> None:
    schema = Form("json_schema", {})
    assert decide(generation(ZEROS), SCRATCH, 1, 3, form=schema) == Accept()
    assert decide(generation(ZEROS), SCRATCH, 1, 3) == Retry(RetryReason.REPETITION)
    text = '{"a": [{"b": "' + "the same again, " * 200 + '"}]}'
    assert decide(generation(text), SCRATCH, 1, 3, form=schema) == Retry(RetryReason.REPETITION)
    thought = generation("{}", analysis="so on and " * 200)
    assert decide(thought, SCRATCH, 1, 3, form=schema) == Retry(RetryReason.REPETITION)


HA = "ha " * 600


@pytest.mark.parametrize(
    "schema", [{"const": HA}, {"anyOf": [{"enum": ["x", [HA]]}]}, {"pattern": "^(ha ){600}$"}]
)
def test_a_text_that_a_schema_dictates_may_repeat_itself(schema: dict[str, Any]) -> None:
    form = Form("json_schema", {"type": "object", "properties": {"a": schema}})
    text = msgspec.json.encode({"a": HA}).decode()
    assert decide(generation(text), SCRATCH, 1, 3, form=form) == Accept()
    other = msgspec.json.encode({"a": HA.replace("h", "H")}).decode()
    assert decide(generation(other), SCRATCH, 1, 3, form=form) == Retry(RetryReason.REPETITION)
    thought = generation(text, analysis=HA)
    assert decide(thought, SCRATCH, 1, 3, form=form) == Retry(RetryReason.REPETITION)


def test_an_answer_in_any_other_form_may_repeat_itself() -> None:
    lines = generation("0\n" * 600)
    assert decide(lines, SCRATCH, 1, 3, form=Form("regex", "(0\n)+")) == Accept()
    assert decide(generation(HA), SCRATCH, 1, 3, form=Form("choice", (HA, "no"))) == Accept()
    thought = generation("no", analysis=HA)
    again = decide(thought, SCRATCH, 1, 3, form=Form("choice", (HA, "no")))
    assert again == Retry(RetryReason.REPETITION)
