"""What becomes of an attempt: pure functions that know no model, clock or database."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from mh_batch.jobs.generation import FinishReason, Generation, StopReason
from mh_batch.jobs.settings import Sampling

BUDGET_GROWTH = 1.25
"""How much larger `max_tokens` gets with each attempt that ran out of it."""


class RetryReason(StrEnum):
    """Why an attempt was not accepted."""

    LENGTH = "length"
    MALFORMED = "malformed"
    EMPTY_FINAL = "empty_final"


GUIDANCE: dict[RetryReason, str] = {
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
    """Return what is wrong with a generation, or `None` if it is good."""
    if generation.stop_reason is StopReason.MAX_TOKENS:
        return RetryReason.LENGTH
    if "empty_final" in generation.parse.problems:
        return RetryReason.EMPTY_FINAL
    if not generation.parse.well_formed:
        return RetryReason.MALFORMED
    return None


def plan(sampling: Sampling, reasons: Sequence[RetryReason]) -> Plan:
    """Return what the next attempt of a step runs with, after attempts that failed by `reasons`.

    The user's `sampling` is the base every time, so nothing of a retry outlives its step. Running
    out of room first earns a larger budget; guidance follows where that was not enough.
    """
    if not reasons:
        return Plan(sampling, None)
    lengths = sum(reason is RetryReason.LENGTH for reason in reasons)
    budget = int(sampling.max_tokens * BUDGET_GROWTH**lengths)
    changed = msgspec.structs.replace(sampling, max_tokens=budget)
    guided = reasons[-1] is not RetryReason.LENGTH or lengths > 1
    return Plan(changed, GUIDANCE[reasons[-1]] if guided else None)


def best(generations: Sequence[Generation]) -> int:
    """Return the index of the attempt to keep when none was good; the earliest of equals.

    An answer that can be read beats a clean failure to answer, and a whole one beats a cut one.
    """

    def merit(index: int) -> tuple[bool, bool, int, int]:
        generation = generations[index]
        parse = generation.parse
        return (
            bool((parse.text("final") or "").strip()) or bool(parse.calls),
            generation.finish_reason is not FinishReason.LENGTH,
            -len(parse.problems),
            -index,
        )

    return max(range(len(generations)), key=merit)
