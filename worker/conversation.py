"""One conversation as a core without I/O: ask it what to do next, feed it what came back.

After h11's connection: events in, actions out. The same core serves one conversation at a time
or many, and `resume` from what the store holds is the whole of crash recovery.
"""

from __future__ import annotations

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import FinishReason, Generation, GenerationRequest, Prompt
from mh_batch.jobs.record import (
    Attempt,
    ClaimedJob,
    JobEnd,
    Place,
    Recorded,
    Turn,
    Verdict,
    assistant_message,
)
from mh_batch.jobs.seeds import attempt_seed
from mh_batch.jobs.settings import Sampling
from mh_batch.jobs.status import Status

from .policy import (
    Accept,
    Decision,
    Failure,
    GiveUp,
    Plan,
    Retry,
    RetryReason,
    best,
    decide,
    plan,
)


class Generate(msgspec.Struct, frozen=True):
    """Run this request and feed the generation back."""

    place: Place
    request: GenerationRequest


class Record(msgspec.Struct, frozen=True):
    """Write this attempt, the turn it settles (if any) and the job's end (if any), at once."""

    attempt: Attempt
    turn: Turn | None
    end: JobEnd | None


class Finish(msgspec.Struct, frozen=True):
    """The job is over and this end is not written yet."""

    end: JobEnd


Action = Generate | Record | Finish


class ConversationRun:
    """The course of one job, from any point at which it was left.

    `next()` says what to do; after a `Generate` comes `feed()` (or `fail()`), after a `Record`
    the caller has written it and asks again.
    """

    def __init__(self, job: ClaimedJob) -> None:
        self._job = job
        self._history: list[Message] = list(job.request.messages)
        self._to_play: list[str] = list(job.request.turns)
        self._tries: list[Attempt] = []
        self._complete = True
        self._turn = 1
        self._user: str | None = None
        self._end: JobEnd | None = None
        self._unwritten: Record | None = None
        self._open_first_turn()

    @classmethod
    def resume(cls, job: ClaimedJob, recorded: Recorded) -> ConversationRun:
        """Return the run as it stood when the last of `recorded` was written."""
        run = cls(job)
        kept = {turn.place.whole: turn for turn in recorded.turns}
        for attempt in recorded.attempts:
            run._tries.append(attempt)
            if attempt.verdict is not Verdict.RETRY:
                # what was recorded counts, whatever today's policy would have kept
                run._close_turn(kept[attempt.place.whole])
        return run

    @property
    def turn(self) -> int:
        """The number of the turn being played, from 1."""
        return self._turn

    @property
    def between_turns(self) -> bool:
        """Whether nothing is begun that would be lost or done again: a good place to stop."""
        return not self._tries and self._unwritten is None and self._end is None

    def next(self) -> Action:
        """Return what to do now."""
        if self._unwritten is not None:
            record, self._unwritten = self._unwritten, None
            return record
        if self._end is not None:
            return Finish(self._end)
        return Generate(self._place(), self._request())

    def feed(self, generation: Generation, started_at: str = "", finished_at: str = "") -> None:
        """Take what the last `Generate` produced and decide what becomes of it."""
        decision = decide(generation, len(self._tries) + 1, self._job.settings.control.max_attempts)
        verdict, reason = _verdict(decision)
        attempt = Attempt(
            place=self._place(),
            verdict=verdict,
            retry_reason=reason,
            seed=attempt_seed(self._job.seed, self._place()),
            sampling=_used(self._plan().sampling, generation),
            generation=generation,
            started_at=started_at,
            finished_at=finished_at,
        )
        self._tries.append(attempt)
        turn = None
        if verdict is not Verdict.RETRY:
            turn = self._settled()
            self._close_turn(turn)
        self._unwritten = Record(attempt, turn, self._end)

    def fail(self, code: str, message: str) -> None:
        """Take that the last `Generate` cannot be done: the job fails, settled turns stay."""
        self._end = JobEnd(Status.FAILED, code, message)

    def _place(self) -> Place:
        return Place(turn=self._turn, attempt=len(self._tries) + 1)

    def _plan(self) -> Plan:
        failures = [
            Failure(RetryReason(t.retry_reason), t.sampling.max_tokens)
            for t in self._tries
            if t.retry_reason
        ]
        return plan(self._job.settings.sampling, failures)

    def _request(self) -> GenerationRequest:
        settings, attempt = self._job.settings, self._plan()
        prompt = Prompt(
            messages=tuple(self._history),
            date=self._job.date,
            tools=self._job.request.tools,
            prompting=settings.prompting,
            guidance=attempt.guidance,
        )
        seed = attempt_seed(self._job.seed, self._place())
        return GenerationRequest(prompt, attempt.sampling, settings.context, seed)

    def _open_first_turn(self) -> None:
        """Start with the context's own last message if it waits for an answer."""
        if self._job.request.asks:
            last = self._history[-1]
            self._user = last.content if last.role == "user" else None
        else:
            self._open_turn()

    def _open_turn(self) -> None:
        self._user = self._to_play.pop(0)
        self._history.append(Message("user", self._user))

    def _settled(self) -> Turn:
        """Return the turn that the attempts so far settle: the accepted one, else the best."""
        accepted = self._tries[-1].verdict is Verdict.ACCEPT
        generations = [attempt.generation for attempt in self._tries]
        kept = self._tries[-1 if accepted else best(generations)]
        parse = kept.generation.parse
        return Turn(
            place=kept.place,
            user=self._user,
            final=parse.text("final"),
            analysis=parse.text("analysis"),
            finish_reason=kept.generation.finish_reason,
            attempts=len(self._tries),
            rescued=kept.rescued,
            complete=accepted,
        )

    def _close_turn(self, turn: Turn) -> None:
        """Take the settled turn into the history; go to the next one or end the job."""
        attempts = {attempt.place.attempt: attempt for attempt in self._tries}
        kept = attempts[turn.place.attempt]
        self._history.append(
            assistant_message(turn.place, turn.final, turn.analysis, kept.generation.parse)
        )
        self._complete = self._complete and turn.complete
        self._tries = []
        self._turn += 1
        called = turn.finish_reason == FinishReason.TOOL_CALLS
        if self._to_play and turn.final and not called:
            self._open_turn()
        else:
            self._end = self._job_end(kept, called)

    def _job_end(self, last: Attempt, called: bool) -> JobEnd:
        if self._complete and not self._to_play:
            return JobEnd(Status.DONE)
        if self._complete and called:
            return JobEnd(
                Status.INCOMPLETE,
                "tool_call_unanswered",
                f"a tool was called with {len(self._to_play)} turns left to play",
            )
        reason = last.retry_reason or "earlier_turn"
        return JobEnd(Status.INCOMPLETE, reason, "the attempts of a turn ran out; its best is kept")


def _used(sampling: Sampling, generation: Generation) -> Sampling:
    """Return the sampling as it really was: the context may have held less than was planned."""
    if generation.max_tokens is None:
        return sampling
    return msgspec.structs.replace(sampling, max_tokens=generation.max_tokens)


def _verdict(decision: Decision) -> tuple[Verdict, RetryReason | None]:
    match decision:
        case Accept():
            return Verdict.ACCEPT, None
        case Retry(reason):
            return Verdict.RETRY, reason
        case GiveUp(reason):
            return Verdict.GIVE_UP, reason
