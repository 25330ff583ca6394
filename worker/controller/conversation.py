"""One conversation as a core without I/O: ask it what to do next, feed it what came back.

After h11's connection: events in, actions out. The same core serves one conversation at a time
or many, and a run that begins at what the store holds is all of crash recovery.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mh_batch.jobs.conversation import Message, ToolCall, answers
from mh_batch.jobs.generation import FinishReason, Generation, GenerationRequest
from mh_batch.jobs.record import (
    Attempt,
    AttemptKey,
    ClaimedJob,
    CompletedStep,
    History,
    JobEnd,
    StepKey,
    Verdict,
    assistant_message,
)
from mh_batch.jobs.status import Status
from mh_batch.worker.text.format import format_count

from .step import StepRun


class Generate(msgspec.Struct, frozen=True):
    """Run this request and feed the generation back."""

    key: AttemptKey
    request: GenerationRequest


class Record(msgspec.Struct, frozen=True):
    """Write, in one transaction, this attempt, the turn it completes and the end of the job.

    `turn` and `end` are `None` if there are none. A choice gives its own end; `JobRun` puts the
    job's in its place.
    """

    attempt: Attempt
    turn: CompletedStep | None
    end: JobEnd | None


class Finish(msgspec.Struct, frozen=True):
    """The run is over, and this end is not written yet."""

    end: JobEnd


class GoodAnswer(msgspec.Struct, frozen=True):
    """An answer with nothing wrong in itself, before a check has seen it.

    `messages` is the conversation that it answers, earlier answers included.
    """

    key: AttemptKey
    messages: tuple[Message, ...]
    final: str
    analysis: str | None


Action = Generate | Record | Finish

NEW = History()
"""The checkpoint of a job that was never begun."""


class ConversationRun:
    """The course of one choice of a job, from any checkpoint.

    `next()` says what to do. After a `Generate` comes `feed()`; after a `Record` the caller has
    written it and asks again. If a generation is impossible, the caller ends the job.

    Recorded verdicts stand, whatever today's policy would say. Of an answer that is not completed,
    attempts of earlier rounds keep their numbers and are otherwise ignored.
    """

    def __init__(self, job: ClaimedJob, checkpoint: History = NEW, choice: int = 0) -> None:
        """Be as the run was when the last part of `checkpoint` was written."""
        self._job = job
        self._choice = choice
        self._attempts: dict[StepKey, list[Attempt]] = {}
        for attempt in checkpoint.attempts:
            if attempt.key.choice == choice:
                self._attempts.setdefault(attempt.key.step_key, []).append(attempt)
        self._history: list[Message] = list(job.request.messages)
        self._to_play: list[str] = list(job.request.turns)
        self._results_used = 0
        self._since = 0  # the round of the latest answer so far
        self._given_up: JobEnd | None = None
        self._end: JobEnd | None = None
        self._unwritten: Record | None = None
        self._open_first_step()
        self._skip({turn.key.step_key: turn for turn in checkpoint.turns})

    @property
    def end(self) -> JobEnd | None:
        """How the choice ended; `None` if it is not over."""
        return self._end

    @property
    def unwritten(self) -> bool:
        """Whether there is a record to write."""
        return self._unwritten is not None

    def next(self) -> Action:
        """Return what to do now."""
        record = self.take_record()
        if record is not None:
            return record
        return self.generate() if self._end is None else Finish(self._end)

    def take_record(self) -> Record | None:
        """Return the record to write now, once; `None` if there is none."""
        record, self._unwritten = self._unwritten, None
        return record

    def generate(self) -> Generate:
        """Return the next generation of a run that is not over; the same until it is fed."""
        return Generate(self._step.key, self._step.request(self._history))

    def good_answer(self, generation: Generation) -> GoodAnswer | None:
        """Return the answer that the last `Generate` produced if a check could still reject it.

        `None` if it is refused anyway, or if it is a call and so no answer.
        """
        parse = generation.parse
        if parse.calls or not self._step.is_good(generation):
            return None
        final, analysis = parse.text("final") or "", parse.text("analysis")
        return GoodAnswer(self._step.key, tuple(self._history), final, analysis)

    def feed(
        self,
        generation: Generation,
        started_at: str = "",
        finished_at: str = "",
        *,
        rejected: str | None = None,
    ) -> None:
        """Judge what the last `Generate` produced and decide what comes next.

        `rejected` is why a check does not accept the answer; `None` if none rejects it.
        """
        attempt = self._step.judge(generation, started_at, finished_at, rejected)
        turn = None
        if attempt.verdict is not Verdict.RETRY:
            turn = self._step.complete(self._since)
            self._close_step(turn, self._step.attempts)
        self._unwritten = Record(attempt, turn, self._end)

    def _open_first_step(self) -> None:
        """Begin with the last message of the context if that asks, else with the first turn."""
        if self._job.request.asks:
            last = self._history[-1]
            self._open_step(1, 0, last.content if last.role == "user" else None)
        else:
            self._open_turn(1)

    def _open_turn(self, turn: int) -> None:
        user = self._to_play.pop(0)
        self._history.append(Message("user", user))
        self._open_step(turn, 0, user)

    def _open_step(self, turn: int, step: int, user: str | None) -> None:
        """Ask the model for the answer to `user`, or to tool results if that is `None`."""
        key = (self._choice, turn, step)
        self._step = StepRun(self._job, key, user, self._attempts.get(key, ()))

    def _skip(self, completed: dict[StepKey, CompletedStep]) -> None:
        """Go to the first step that is not completed on record.

        What is on record behind it followed another answer, and is asked anew.
        """
        while self._end is None:
            step = (self._choice, self._step.turn, self._step.step)
            turn = completed.get(step)
            if turn is None:
                return
            self._close_step(turn, self._attempts[step])

    def _close_step(self, turn: CompletedStep, attempts: Sequence[Attempt]) -> None:
        """Take a completed step into the history; go on with tool results or a turn."""
        kept = next(a for a in attempts if a.key.attempt == turn.key.attempt)
        self._since = max(self._since, kept.round)
        if not turn.complete:
            self._given_up = self._given_up or _given_up(kept)
        reply = assistant_message(turn.key, turn.final, turn.analysis, kept.generation.parse)
        called = turn.finish_reason == FinishReason.TOOL_CALLS
        results = self._tool_messages(reply.tool_calls) if called else None
        step = self._step
        if results is not None and step.step + 1 < self._job.settings.control.max_steps:
            self._history += [reply, *results]
            self._results_used += len(results)
            self._open_step(step.turn, step.step + 1, None)
            return
        # the model must not see a call without a result
        self._history.append(msgspec.structs.replace(reply, tool_calls=()))
        if self._to_play and (turn.final or "").strip() and not called:
            self._open_turn(step.turn + 1)
            return
        missing = self._what_is_missing(called, results is not None)
        self._end = missing or JobEnd(Status.DONE)

    def _tool_messages(self, calls: tuple[ToolCall, ...]) -> tuple[Message, ...] | None:
        """Return the results of tool calls; `None` if the job has none for them."""
        results = self._job.request.tool_results
        return None if results is None else answers(calls, results, self._results_used)

    def _what_is_missing(self, called: bool, answered: bool) -> JobEnd | None:
        """Return why the choice, which is over, is incomplete; `None` if it is complete.

        `called` says that its last answer called a tool, `answered` that there was a result.
        """
        left = f"{format_count(len(self._to_play), 'turn')} left to play"
        if self._given_up is not None:
            if not self._to_play:
                return self._given_up
            return msgspec.structs.replace(self._given_up, error=f"{self._given_up.error}; {left}")
        if answered:
            steps = format_count(self._job.settings.control.max_steps, "call")
            text = f"a turn took {steps} of the model and asked for another; see max_steps"
            return JobEnd(Status.INCOMPLETE, "too_many_steps", text)
        if called and self._job.request.tool_results is not None:
            text = "a tool was called that tool_results has no answer for"
            return JobEnd(Status.INCOMPLETE, "tool_call_unanswered", text)
        if called and self._to_play:
            return JobEnd(Status.INCOMPLETE, "tool_call_unanswered", f"a tool was called; {left}")
        return None


def _given_up(kept: Attempt) -> JobEnd:
    """Return the end of a job in which all attempts at an answer failed."""
    text = f"the attempts of turn {kept.key.turn} ran out; the best one is kept"
    if kept.rejected is not None:
        text = f"{text}, although it was rejected: {kept.rejected}"
    return JobEnd(Status.INCOMPLETE, kept.retry_reason, text)
