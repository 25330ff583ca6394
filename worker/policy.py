"""What becomes of an attempt: pure functions that know no model, clock or database."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from mh_batch.jobs.generation import Generation, StopReason
from mh_batch.jobs.settings import Sampling

BUDGET_GROWTH = 1.25
"""How much larger `max_tokens` gets with each attempt that ran out of it."""


class RetryReason(StrEnum):
    """Why an attempt was not accepted."""

    LOOP_DETECTED = "loop_detected"
    LENGTH = "length"
    MALFORMED = "malformed"
    EMPTY_FINAL = "empty_final"


LOOP_PENALTY = 1.1
"""The least `repetition_penalty` of an attempt after a loop; each further loop multiplies it."""

LOOP_WINDOW = 512
"""The least `repetition_window` of an attempt after a loop: longer than what the loop repeats."""

GUIDANCE: dict[RetryReason, str] = {
    RetryReason.LOOP_DETECTED: (
        "The last attempt repeated itself. Do not repeat words or lines. "
        "Be brief and end with a final answer."
    ),
    RetryReason.LENGTH: (
        "The last attempt ran out of room. Think briefly, be brief, and end with a final answer."
    ),
    RetryReason.MALFORMED: (
        "The last attempt was not a well-formed answer. Think briefly, then give one final answer."
    ),
    RetryReason.EMPTY_FINAL: (
        "The last attempt was not a well-formed answer. Think briefly, then give one final answer."
    ),
}


class Failure(msgspec.Struct, frozen=True):
    """An attempt that was not accepted: why, and how many tokens it really had."""

    reason: RetryReason
    max_tokens: int


class Accept(msgspec.Struct, frozen=True):
    """The attempt is good."""


class Retry(msgspec.Struct, frozen=True):
    """Try again, because of `reason`."""

    reason: RetryReason


class GiveUp(msgspec.Struct, frozen=True):
    """The attempts have run out; the last one failed because of `reason`."""

    reason: RetryReason


Decision = Accept | Retry | GiveUp


class Plan(msgspec.Struct, frozen=True):
    """What one attempt runs with: the user's sampling, changed by what went wrong before."""

    sampling: Sampling
    guidance: str | None


def decide(generation: Generation, attempt: int, max_attempts: int) -> Decision:
    """Judge one attempt; `attempt` counts from 1."""
    reason = fault(generation)
    if reason is None:
        return Accept()
    return Retry(reason) if attempt < max_attempts else GiveUp(reason)


def fault(generation: Generation) -> RetryReason | None:
    """Return what is wrong with a generation, or `None` if it is good.

    What ended the stream counts first: a cut answer may read as if it were whole.
    """
    if generation.stop_reason is StopReason.LOOP_DETECTED:
        return RetryReason.LOOP_DETECTED
    if generation.stop_reason is StopReason.MAX_TOKENS:
        return RetryReason.LENGTH
    if "empty_final" in generation.parse.problems:
        return RetryReason.EMPTY_FINAL
    if not generation.parse.well_formed:
        return RetryReason.MALFORMED
    return None


def plan(sampling: Sampling, failures: Sequence[Failure]) -> Plan:
    """Return what the next attempt of a step runs with, after attempts that failed.

    The user's `sampling` is the base every time, so nothing of a retry outlives its step.

    - Out of room: a quarter more of it; with guidance where that was tried, or where the context
      holds no more.
    - A loop: a repetition penalty over a longer window, `full` loop detection, and guidance.
    - Anything else: guidance, and the new seed that every attempt has.
    """
    if not failures:
        return Plan(sampling, None)
    last = failures[-1]
    lengths = sum(failure.reason is RetryReason.LENGTH for failure in failures)
    loops = sum(failure.reason is RetryReason.LOOP_DETECTED for failure in failures)
    budget = int(sampling.max_tokens * BUDGET_GROWTH**lengths)
    changed = msgspec.structs.replace(sampling, max_tokens=budget)
    if loops:
        changed = msgspec.structs.replace(
            changed,
            repetition_penalty=max(sampling.repetition_penalty, 1.0) * LOOP_PENALTY**loops,
            repetition_window=max(sampling.repetition_window, LOOP_WINDOW),
            loop_detection="full",
        )
    context_is_full = last.max_tokens < sampling.max_tokens
    only_room = last.reason is RetryReason.LENGTH and lengths == 1 and not context_is_full
    return Plan(changed, None if only_room else GUIDANCE[last.reason])


def best(generations: Sequence[Generation]) -> int:
    """Return the index of the attempt to keep when none was good; the earliest of equals.

    An answer that can be read beats a clean failure to answer, and a whole one beats a cut one.
    """

    def merit(index: int) -> tuple[bool, bool, int, int]:
        generation = generations[index]
        parse = generation.parse
        return (
            bool((parse.text("final") or "").strip()) or bool(parse.calls),
            generation.stop_reason is StopReason.STOP_TOKEN,
            -len(parse.problems),
            -index,
        )

    return max(range(len(generations)), key=merit)
