"""What becomes of an attempt: pure functions that know no model, clock or database."""

from collections.abc import Sequence
from enum import StrEnum
from math import prod

import msgspec

from mh_batch.jobs.generation import Channel, Generation, StopReason
from mh_batch.jobs.settings import MAX_REPETITION_PENALTY, MOST, Sampling

from .repetition import goes_on, repeats


class RetryReason(StrEnum):
    """Why an attempt was not accepted."""

    LOOP_DETECTED = "loop_detected"
    LENGTH = "length"
    REPETITION = "repetition"
    BAD_CALL = "bad_call"
    MALFORMED = "malformed"
    EMPTY_FINAL = "empty_final"


class Change(msgspec.Struct, frozen=True):
    """What one failure changes for the attempts from scratch after it at the same answer.

    `budget` multiplies `max_tokens`, `penalty` the `repetition_penalty`, each failure anew.
    `window` is the least `repetition_window`; `full_detection` has loops watched for closely.
    `guidance` is what the next attempt is told.
    """

    guidance: str
    budget: float = 1.0
    penalty: float = 1.0
    window: int = 1
    full_detection: bool = False


_REPEATED = Change(
    "The last attempt repeated itself. Do not repeat words or lines. "
    "Be brief and end with a final answer.",
    penalty=1.1,
    # longer than what a loop repeats
    window=512,
    full_detection=True,
)
_MALFORMED = Change(
    "The last attempt was not a well-formed answer. Think briefly, then give one final answer."
)

CHANGES: dict[RetryReason, Change] = {
    RetryReason.LOOP_DETECTED: _REPEATED,
    RetryReason.REPETITION: _REPEATED,
    RetryReason.LENGTH: Change(
        "The last attempt ran out of room. Think briefly, be brief, and end with a final answer.",
        budget=1.25,
    ),
    RetryReason.BAD_CALL: Change(
        "The last attempt called a function wrongly. Call only the functions that there are, with "
        "all arguments that they require."
    ),
    RetryReason.MALFORMED: _MALFORMED,
    RetryReason.EMPTY_FINAL: _MALFORMED,
}
"""What becomes different, by what went wrong; every attempt has a seed of its own besides."""

BAD_CALLS = frozenset({"unknown_tool", "missing_argument", "bad_arguments"})
"""Problems of a completion whose only fault is what it calls, or with what."""

STUCK = "analysis_not_ended"
"""The problem of a completion that was cut while it was thinking: such an analysis can be used."""


class Failure(msgspec.Struct, frozen=True):
    """An attempt from scratch that was not accepted, and why; what it goes on with counts to it.

    `stuck` says that it never came out of its analysis, `cut` that it can go on where it is.
    """

    reason: RetryReason
    stuck: bool = False
    cut: bool = False


class Accept(msgspec.Struct, frozen=True):
    """The attempt is good."""


class Continue(msgspec.Struct, frozen=True):
    """Go on where the attempt was cut."""


class Retry(msgspec.Struct, frozen=True):
    """Try again, because of `reason`."""

    reason: RetryReason


class GiveUp(msgspec.Struct, frozen=True):
    """The attempts have run out; the last one failed because of `reason`."""

    reason: RetryReason


Decision = Accept | Continue | Retry | GiveUp


class Plan(msgspec.Struct, frozen=True):
    """What one attempt runs with: the user's sampling, changed by what went wrong before.

    `guidance` is what the model is told for this attempt, `None` for nothing. `forced_final` begins
    the answer with the analysis of the attempt before. `continues` goes on where the attempt before
    was cut: all else is as it was for that one, so that its prompt is the same.
    """

    sampling: Sampling
    guidance: str | None = None
    forced_final: bool = False
    continues: bool = False

    @property
    def max_tokens(self) -> int:
        """How many tokens the attempt may draw."""
        most = self.sampling.max_tokens
        return more_tokens(most) if self.continues else most


def more_tokens(max_tokens: int) -> int:
    """Return how many tokens more an answer gets that was cut at `max_tokens`: half of them."""
    return (max_tokens + 1) // 2


def can_go_on(reason: RetryReason, generation: Generation, max_tokens: int) -> bool:
    """Whether a generation was cut at `max_tokens`, and the context holds as many as it may get.

    `reason` says what was wrong with it: one that was cut in a loop does not go on.
    """
    if reason is not RetryReason.LENGTH:
        return False
    return generation.room is None or generation.room >= more_tokens(max_tokens)


def decide(
    generation: Generation,
    planned: Plan,
    attempt: int,
    max_attempts: int,
    *,
    repetition: bool = True,
) -> Decision:
    """Judge one attempt that ran as `planned`; `repetition` says whether its text may not.

    `attempt` counts those from scratch, from 1; what goes on from one has the number of that.
    """
    rescued = planned.forced_final and bool(generation.response_prefill)
    reason = fault(generation, rescued=rescued, repetition=repetition)
    if reason is None:
        return Accept()
    from_scratch = not (planned.continues or planned.forced_final)
    if from_scratch and can_go_on(reason, generation, planned.sampling.max_tokens):
        return Continue()
    return Retry(reason) if attempt < max_attempts else GiveUp(reason)


def fault(
    generation: Generation, *, rescued: bool = False, repetition: bool = True
) -> RetryReason | None:
    """Return what is wrong with a generation, or `None` if it is good.

    What ended the stream counts first: a cut answer may read as if it were whole, and one that was
    cut in a loop needs no more room. What an answer goes on from is a part of it, but a rescue was
    given its thoughts.
    """
    if generation.stop_reason is StopReason.LOOP_DETECTED:
        return RetryReason.LOOP_DETECTED
    if generation.stop_reason is StopReason.MAX_TOKENS:
        looping = repetition and goes_on((*generation.response_prefill, *generation.tokens))
        return RetryReason.LOOP_DETECTED if looping else RetryReason.LENGTH
    if "empty_final" in generation.parse.problems:
        return RetryReason.EMPTY_FINAL
    if not generation.parse.well_formed:
        bad_call = BAD_CALLS.issuperset(generation.parse.problems)
        return RetryReason.BAD_CALL if bad_call else RetryReason.MALFORMED
    if repetition and repeats(_said(generation, rescued)):
        return RetryReason.REPETITION
    return None


def _said(generation: Generation, rescued: bool) -> tuple[Channel, ...]:
    """Return what is an attempt's own."""
    channels = generation.parse.channels
    if not rescued:
        return channels
    return tuple(channel for channel in channels if channel.channel == "final")


def plan(sampling: Sampling, failures: Sequence[Failure], max_attempts: int) -> Plan:
    """Return what the next attempt at an answer runs with, after attempts that failed.

    One that was cut is gone on with. From scratch, the user's `sampling` is the base every time, so
    nothing of a retry outlives its answer. What `CHANGES` says of each failure adds up, and the
    last one gives the guidance.

    The last resort for an analysis that never ends is not another one: the last attempt goes on
    from there, with the final channel opened for it.
    """
    if not failures:
        return Plan(sampling)
    *before, last = failures
    if last.cut:
        return msgspec.structs.replace(plan(sampling, before, max_attempts), continues=True)
    if last.stuck and len(failures) == max_attempts - 1:
        changed = _changed(sampling, failures)
        return Plan(
            msgspec.structs.replace(changed, max_tokens=sampling.max_tokens), forced_final=True
        )
    return Plan(_changed(sampling, failures), CHANGES[last.reason].guidance)


def _changed(sampling: Sampling, failures: Sequence[Failure]) -> Sampling:
    """Return the user's sampling with what each failure changes."""
    changes = [CHANGES[failure.reason] for failure in failures]
    penalty = prod(change.penalty for change in changes)
    budget = int(sampling.max_tokens * prod(change.budget for change in changes))
    changed = msgspec.structs.replace(
        sampling,
        # what is more cannot be sent to the model
        max_tokens=min(budget, MOST),
        repetition_window=max(sampling.repetition_window, *(c.window for c in changes)),
    )
    if penalty > 1:
        # a penalty below 1 asks for repetition, and is where the trouble came from
        penalty = min(penalty * max(sampling.repetition_penalty, 1.0), MAX_REPETITION_PENALTY)
        changed = msgspec.structs.replace(changed, repetition_penalty=penalty)
    if any(change.full_detection for change in changes):
        changed = msgspec.structs.replace(changed, loop_detection="full")
    return changed


def best(generations: Sequence[Generation]) -> int:
    """Return the index of the attempt to keep when none was good; the earliest of equals.

    An answer that can be read beats a clean failure to answer, a whole one beats a cut one, and of
    those that ran out of room the longest is the furthest.
    """

    def merit(index: int) -> tuple[bool, bool, int, int, int, int]:
        generation = generations[index]
        parse, stop = generation.parse, generation.stop_reason
        final = (parse.text("final") or "").strip()
        cut = stop is StopReason.MAX_TOKENS
        return (
            bool(final) or bool(parse.calls),
            stop is StopReason.STOP_TOKEN,
            -len(parse.problems),
            len(final) if cut else 0,
            sum(len(channel.text) for channel in parse.channels) if cut else 0,
            -index,
        )

    return max(range(len(generations)), key=merit)
