"""Judges attempts and plans retries: pure functions, without model, clock or database."""

from collections.abc import Sequence
from enum import StrEnum
from math import prod

import msgspec

from mh_batch.jobs.answers.forms import INCOMPLETE, VIOLATED, Form
from mh_batch.jobs.generation import Channel, Generation, StopReason
from mh_batch.jobs.settings import MAX_REPETITION_PENALTY, MOST, Sampling

from .repetition import ends_in_loop, repeats


class RetryReason(StrEnum):
    """Why an attempt was not accepted."""

    LOOP_DETECTED = "loop_detected"
    LENGTH = "length"
    REPETITION = "repetition"
    BAD_CALL = "bad_call"
    MALFORMED = "malformed"
    EMPTY_FINAL = "empty_final"
    INCOMPLETE_FORM = "incomplete_form"
    CONSTRAINT_FAILED = "constraint_failed"
    REJECTED = "rejected"


class SamplingChange(msgspec.Struct, frozen=True):
    """How one failure changes the later attempts at the same answer.

    Each failure multiplies `max_tokens` by `budget` and `repetition_penalty` by `penalty`. `window`
    is the least `repetition_window`, `full_detection` sets the loop detection to `full`. `guidance`
    is a remark in the prompt of the next attempt.
    """

    guidance: str
    budget: float = 1.0
    penalty: float = 1.0
    window: int = 1
    full_detection: bool = False


_REPEATED = SamplingChange(
    "The last attempt repeated itself. Do not repeat words or lines. "
    "Be brief and end with a final answer.",
    penalty=1.1,
    # longer than any cycle of a loop
    window=512,
    full_detection=True,
)
_MALFORMED = SamplingChange(
    "The last attempt was not a well-formed answer. Think briefly, then give one final answer."
)

CHANGES: dict[RetryReason, SamplingChange] = {
    RetryReason.LOOP_DETECTED: _REPEATED,
    RetryReason.REPETITION: _REPEATED,
    RetryReason.LENGTH: SamplingChange(
        "The last attempt ran out of room. Think briefly, be brief, and end with a final answer.",
        budget=1.25,
    ),
    RetryReason.BAD_CALL: SamplingChange(
        "The last attempt called a function wrongly. Call only the functions that there are, with "
        "all arguments that they require."
    ),
    RetryReason.MALFORMED: _MALFORMED,
    RetryReason.EMPTY_FINAL: _MALFORMED,
    RetryReason.INCOMPLETE_FORM: SamplingChange(
        "The last attempt ran out of room before its answer was complete. Think briefly, and keep "
        "the answer short.",
        budget=1.25,
    ),
    # nothing that the model did: another seed and another way there
    RetryReason.CONSTRAINT_FAILED: SamplingChange(
        "The last attempt was cut off. Think briefly, then give one final answer in the form that "
        "is asked for."
    ),
    RetryReason.REJECTED: SamplingChange("The last answer was not accepted. Give another one."),
}
"""The changes by reason. Every attempt also has a seed of its own."""

CUT = frozenset({RetryReason.LENGTH, RetryReason.INCOMPLETE_FORM})
"""Reasons that more tokens may help against: such an attempt can be continued."""

BAD_CALLS = frozenset({"unknown_tool", "missing_argument", "bad_arguments"})
"""Parse problems of a completion that is well formed but for its tool calls."""

STUCK = "analysis_not_ended"
"""The parse problem of a completion that was cut in its analysis: a final can be forced from it."""


class Failure(msgspec.Struct, frozen=True):
    """An attempt that was not accepted; its continuation is part of it.

    `stuck` says that it did not end its analysis, `continuable` that it can be continued.
    `rejected` is what a check said of a good answer that it did not accept, else `None`.
    """

    reason: RetryReason
    stuck: bool = False
    continuable: bool = False
    rejected: str | None = None

    @property
    def guidance(self) -> str:
        """The remark in the prompt of the next attempt."""
        if self.rejected is None:
            return CHANGES[self.reason].guidance
        why = self.rejected.rstrip(" .")
        return f"The last answer was not accepted: {why}. Give another one."


class Accept(msgspec.Struct, frozen=True):
    """The attempt is good."""


class Continue(msgspec.Struct, frozen=True):
    """Continue the attempt where it was cut, which was for `reason`."""

    reason: RetryReason = RetryReason.LENGTH


class Retry(msgspec.Struct, frozen=True):
    """Try again, because of `reason`."""

    reason: RetryReason


class GiveUp(msgspec.Struct, frozen=True):
    """The attempts have run out; the last one failed because of `reason`."""

    reason: RetryReason


Decision = Accept | Continue | Retry | GiveUp


class Plan(msgspec.Struct, frozen=True):
    """What one attempt runs with: the user's sampling, changed by earlier failures.

    `guidance` is a remark in this attempt's prompt, or `None`. `forced_final` begins the answer
    with the analysis of the attempt before and an opened final channel. `continues` continues the
    attempt before where it was cut, with the same prompt.
    """

    sampling: Sampling
    guidance: str | None = None
    forced_final: bool = False
    continues: bool = False

    @property
    def max_tokens(self) -> int:
        """How many tokens the attempt may generate."""
        most = self.sampling.max_tokens
        return continuation_tokens(most) if self.continues else most


def continuation_tokens(max_tokens: int) -> int:
    """Return how many more tokens an answer gets that was cut at `max_tokens`: half of them."""
    return (max_tokens + 1) // 2


def failure_of(
    generation: Generation,
    reason: RetryReason,
    max_tokens: int,
    *,
    from_scratch: bool,
    rejected: str | None = None,
) -> Failure:
    """Describe an attempt that had `max_tokens` and was not accepted because of `reason`.

    `rejected` is what a check said of it, `None` if there was none. It can be continued if it
    began `from_scratch`, was cut outside a loop, and the context holds the tokens that a
    continuation gets.
    """
    room = generation.room
    enough = room is None or room >= continuation_tokens(max_tokens)
    return Failure(
        reason=reason,
        stuck=STUCK in generation.parse.problems,
        continuable=from_scratch and reason in CUT and enough,
        rejected=rejected,
    )


def decide(
    generation: Generation,
    planned: Plan,
    attempt: int,
    max_attempts: int,
    *,
    repetition: bool = True,
    form: Form | None = None,
    rejected: bool = False,
) -> Decision:
    """Judge one attempt that ran as `planned`; `repetition` says whether to check its text for it.

    `form` is that of the answer, `None` for free text.
    `attempt` counts attempts from 1; a continuation has the number of the one it continues.
    `rejected` says that a check did not accept the answer, which counts only if it is good.
    """
    rescued = planned.forced_final and bool(generation.response_prefill)
    reason = fault(generation, rescued=rescued, repetition=repetition, form=form)
    if reason is None and rejected:
        reason = RetryReason.REJECTED
    if reason is None:
        return Accept()
    from_scratch = not (planned.continues or planned.forced_final)
    max_tokens = planned.sampling.max_tokens
    if failure_of(generation, reason, max_tokens, from_scratch=from_scratch).continuable:
        return Continue(reason)
    return Retry(reason) if attempt < max_attempts else GiveUp(reason)


def fault(
    generation: Generation,
    *,
    rescued: bool = False,
    repetition: bool = True,
    form: Form | None = None,
) -> RetryReason | None:
    """Return what is wrong with a generation, or `None` if it is good.

    The stop reason counts first: a cut answer may look complete, and one that was cut in a loop
    needs no more tokens. The analysis of a `rescued` answer is not its own, and not checked. A
    form may have to repeat itself: of its answer only the texts in it are checked.
    """
    problems = generation.parse.problems
    if generation.stop_reason is StopReason.LOOP_DETECTED:
        return RetryReason.LOOP_DETECTED
    if generation.stop_reason is StopReason.CONSTRAINT_FAILED:
        return RetryReason.CONSTRAINT_FAILED
    if generation.stop_reason is StopReason.MAX_TOKENS:
        if INCOMPLETE in problems:
            return RetryReason.INCOMPLETE_FORM
        looping = repetition and ends_in_loop((*generation.response_prefill, *generation.tokens))
        return RetryReason.LOOP_DETECTED if looping else RetryReason.LENGTH
    if "empty_final" in problems:
        return RetryReason.EMPTY_FINAL
    if VIOLATED in problems:
        return RetryReason.REJECTED
    if not generation.parse.well_formed:
        return RetryReason.BAD_CALL if BAD_CALLS.issuperset(problems) else RetryReason.MALFORMED
    if repetition and repeats(_own_channels(generation, rescued), form):
        return RetryReason.REPETITION
    return None


def _own_channels(generation: Generation, rescued: bool) -> tuple[Channel, ...]:
    """Return the channels that the attempt itself generated."""
    channels = generation.parse.channels
    if not rescued:
        return channels
    return tuple(channel for channel in channels if channel.channel == "final")


def plan(sampling: Sampling, failures: Sequence[Failure], max_attempts: int) -> Plan:
    """Plan the next attempt at an answer, after attempts that failed.

    An attempt that was cut is continued. Any other starts from the user's `sampling`, so no change
    outlives its answer; the `CHANGES` of all failures are combined, and the last one gives the
    guidance.

    If the last failure did not end its analysis, the last attempt is a forced final.
    """
    if not failures:
        return Plan(sampling)
    *before, last = failures
    if last.continuable:
        return msgspec.structs.replace(plan(sampling, before, max_attempts), continues=True)
    if last.stuck and len(failures) == max_attempts - 1:
        changed = _changed(sampling, failures)
        return Plan(
            msgspec.structs.replace(changed, max_tokens=sampling.max_tokens), forced_final=True
        )
    return Plan(_changed(sampling, failures), last.guidance)


def _changed(sampling: Sampling, failures: Sequence[Failure]) -> Sampling:
    """Return the user's sampling with the changes of each failure."""
    changes = [CHANGES[failure.reason] for failure in failures]
    penalty = prod(change.penalty for change in changes)
    budget = int(sampling.max_tokens * prod(change.budget for change in changes))
    changed = msgspec.structs.replace(
        sampling,
        # a larger number cannot be sent to the model
        max_tokens=min(budget, MOST),
        repetition_window=max(sampling.repetition_window, *(c.window for c in changes)),
    )
    if penalty > 1:
        # a penalty below 1 encourages repetition and may have caused the failure
        penalty = min(penalty * max(sampling.repetition_penalty, 1.0), MAX_REPETITION_PENALTY)
        changed = msgspec.structs.replace(changed, repetition_penalty=penalty)
    if any(change.full_detection for change in changes):
        changed = msgspec.structs.replace(changed, loop_detection="full")
    return changed


def best(generations: Sequence[Generation]) -> int:
    """Return the index of the best attempt when none was good; the earliest of equals.

    An answer beats none, a complete answer beats a cut one, and of the cut ones the longest wins.
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
