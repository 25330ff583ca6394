"""One conversation as a core without I/O: ask it what to do next, feed it what came back.

After h11's connection: events in, actions out. The same core serves one conversation at a time
or many, and `resume` from what the store holds is the whole of crash recovery.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.generation import (
    Continuation,
    FinishReason,
    Generation,
    GenerationRequest,
    Prompt,
)
from mh_batch.jobs.record import (
    Attempt,
    AttemptKey,
    ClaimedJob,
    History,
    JobEnd,
    Step,
    Turn,
    Verdict,
    assistant_message,
)
from mh_batch.jobs.seeds import attempt_seed
from mh_batch.jobs.settings import Sampling
from mh_batch.jobs.status import Status
from mh_batch.jobs.tool_results import answers
from mh_batch.worker.text.format import count

from .retry_policy import (
    STUCK,
    Accept,
    Continue,
    Decision,
    Failure,
    GiveUp,
    Plan,
    Retry,
    RetryReason,
    best,
    can_go_on,
    decide,
    plan,
)


class Generate(msgspec.Struct, frozen=True):
    """Run this request and feed the generation back."""

    key: AttemptKey
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

NOTHING = History()
"""What the store holds of a job that was never begun."""


class ConversationRun:
    """The course of one job, from any point at which it was left.

    `next()` says what to do; after a `Generate` comes `feed()`, after a `Record` the caller has
    written it and asks again. A generation that cannot be done ends the job without its run. The
    completions of a prompt (choices) are played one after the other, each from the beginning.
    """

    def __init__(self, job: ClaimedJob, recorded: History = NOTHING) -> None:
        self._job = job
        self._kept = {turn.key.step_key: turn for turn in recorded.turns}
        self._attempts: dict[Step, list[Attempt]] = {}
        for attempt in recorded.attempts:
            self._attempts.setdefault(attempt.key.step_key, []).append(attempt)
        self._trouble: JobEnd | None = None
        self._end: JobEnd | None = None
        self._unwritten: Record | None = None
        self._open_choice(0)
        self._skip_kept()

    @classmethod
    def resume(cls, job: ClaimedJob, recorded: History) -> ConversationRun:
        """Return the run as it stood when the last of `recorded` was written.

        What was recorded counts, whatever today's policy would have made of it. Attempts of an
        earlier round at an answer that is not settled are counted on, and are nothing else.
        """
        return cls(job, recorded)

    @property
    def turn(self) -> int:
        """The number of the turn being played, from 1."""
        return self._turn

    @property
    def between_turns(self) -> bool:
        """Whether nothing is begun that would be lost or done again: a good place to stop."""
        begun = self._tries or self._step or self._unwritten is not None
        return not begun and self._end is None

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
        planned = self._plan()
        # what the context has no room for is an answer from scratch
        continues = planned.continues and bool(generation.response_prefill)
        verdict, reason = _verdict(self._decision(generation, planned, continues))
        attempt = Attempt(
            key=self._place(),
            verdict=verdict,
            retry_reason=reason,
            seed=self._seed(planned),
            sampling=_used(planned, generation),
            generation=generation,
            rescued=planned.forced_final and bool(generation.response_prefill),
            continues=continues,
            started_at=started_at,
            finished_at=finished_at,
            round=self._job.round,
        )
        self._tries.append(attempt)
        turn = None
        if verdict is not Verdict.RETRY:
            turn = self._settled()
            # what followed another answer in this conversation does not follow this one
            self._kept = {step: t for step, t in self._kept.items() if step[0] != self._choice}
            self._close_step(turn, [*self._earlier, *self._tries])
            self._skip_kept()
        self._unwritten = Record(attempt, turn, self._end)

    @property
    def _max_attempts(self) -> int:
        return self._job.settings.control.max_attempts

    def _place(self) -> AttemptKey:
        attempt = len(self._earlier) + len(self._tries) + 1
        return AttemptKey(self._choice, self._turn, self._step, attempt)

    def _decision(self, generation: Generation, planned: Plan, continues: bool) -> Decision:
        """Judge what came back, as one more attempt from scratch unless it `continues` one."""
        watched = self._job.settings.sampling.loop_detection != "off"
        attempts = sum(not t.continues for t in self._tries) + (not continues)
        return decide(generation, planned, attempts, self._max_attempts, repetition=watched)

    def _plan(self) -> Plan:
        failures: list[Failure] = []
        for attempt in self._tries:
            if attempt.continues:
                # the two are one attempt from scratch, and fail together
                del failures[-1:]
            if attempt.retry_reason is not None:
                failures.append(_failure(attempt, RetryReason(attempt.retry_reason)))
        return plan(self._job.settings.sampling, failures, self._max_attempts)

    def _seed(self, planned: Plan) -> int:
        """Return the next attempt's seed: where it goes on from one, that one's."""
        if planned.continues:
            return self._tries[-1].seed
        return attempt_seed(self._job.seed, self._place())

    def _request(self) -> GenerationRequest:
        settings, attempt = self._job.settings, self._plan()
        prompt = Prompt(
            messages=tuple(self._history),
            date=self._job.date,
            tools=self._job.request.tools,
            prompting=settings.prompting,
            guidance=attempt.guidance,
        )
        so_far = _answer(self._tries[-1]) if self._tries else ()
        return GenerationRequest(
            prompt=prompt,
            sampling=attempt.sampling,
            context=settings.context,
            seed=self._seed(attempt),
            forced_final=so_far if attempt.forced_final else (),
            continues=Continuation(so_far, attempt.max_tokens) if attempt.continues else None,
        )

    def _open_choice(self, choice: int) -> None:
        """Begin a completion of the prompt, with the context's own last message if it asks."""
        self._choice = choice
        self._history: list[Message] = list(self._job.request.messages)
        self._to_play: list[str] = list(self._job.request.turns)
        self._results_used = 0
        self._since = 0  # the round that the latest of the answers so far is of
        self._given_up: JobEnd | None = None
        self._turn = 0
        self._user: str | None = None
        if self._job.request.asks:
            last = self._history[-1]
            self._open_step(1, 0, last.content if last.role == "user" else None)
        else:
            self._open_turn()

    def _open_turn(self) -> None:
        """Play the next of the user's turns."""
        user = self._to_play.pop(0)
        self._history.append(Message("user", user))
        self._open_step(self._turn + 1, 0, user)

    def _open_step(self, turn: int, step: int, user: str | None) -> None:
        """Ask the model: for the answer to `user`, or to tool results if that is `None`."""
        self._turn, self._step, self._user = turn, step, user
        attempts = self._attempts.get((self._choice, turn, step), [])
        self._earlier = [a for a in attempts if a.round < self._job.round]
        self._tries = [a for a in attempts if a.round == self._job.round]

    def _skip_kept(self) -> None:
        """Go on to the first step that is not settled on record."""
        while self._end is None:
            step = (self._choice, self._turn, self._step)
            turn = self._kept.pop(step, None)
            if turn is None:
                return
            self._close_step(turn, self._attempts[step])

    def _settled(self) -> Turn:
        """Return the turn that the attempts settle: the accepted one, else the best of all."""
        # what followed another answer in this conversation does not follow this one
        earlier = [attempt for attempt in self._earlier if attempt.round >= self._since]
        attempts = [*earlier, *self._tries]
        accepted = self._tries[-1].verdict is Verdict.ACCEPT
        kept = attempts[-1 if accepted else best([a.generation for a in attempts])]
        parse = kept.generation.parse
        return Turn(
            key=kept.key,
            user=self._user,
            final=parse.text("final"),
            analysis=parse.text("analysis"),
            finish_reason=kept.generation.finish_reason,
            attempts=len(self._earlier) + len(self._tries),
            rescued=kept.rescued,
            complete=accepted,
        )

    def _close_step(self, turn: Turn, attempts: Sequence[Attempt]) -> None:
        """Take a settled step into the history; go on with tool results, a turn or a choice."""
        kept = next(a for a in attempts if a.key.attempt == turn.key.attempt)
        self._since = max(self._since, kept.round)
        if not turn.complete:
            self._given_up = self._given_up or _given_up(kept)
        reply = assistant_message(turn.key, turn.final, turn.analysis, kept.generation.parse)
        called = turn.finish_reason == FinishReason.TOOL_CALLS
        results = self._tool_messages(reply.tool_calls) if called else None
        if results is not None and self._step + 1 < self._job.settings.control.max_steps:
            self._history += [reply, *results]
            self._results_used += len(results)
            self._open_step(self._turn, self._step + 1, None)
            return
        # a call that nobody answers has no place in what the model sees next
        self._history.append(msgspec.structs.replace(reply, tool_calls=()))
        if self._to_play and (turn.final or "").strip() and not called:
            self._open_turn()
            return
        self._trouble = self._trouble or self._shortfall(called, results is not None)
        if self._choice + 1 < self._job.request.n:
            self._open_choice(self._choice + 1)
        else:
            self._tries, self._step = [], 0
            self._end = self._trouble or JobEnd(Status.DONE)

    def _tool_messages(self, calls: tuple[ToolCall, ...]) -> tuple[Message, ...] | None:
        """Return what the tools answer; `None` if there is no such script, or it has no answer."""
        results = self._job.request.tool_results
        return None if results is None else answers(calls, results, self._results_used)

    def _shortfall(self, called: bool, answered: bool) -> JobEnd | None:
        """Return what a choice that is over lacks, `None` if it is all that was asked for."""
        left = f"{count(len(self._to_play), 'turn')} left to play"
        if self._given_up is not None:
            if not self._to_play:
                return self._given_up
            return msgspec.structs.replace(self._given_up, error=f"{self._given_up.error}; {left}")
        if answered:
            steps = count(self._job.settings.control.max_steps, "call")
            text = f"a turn took {steps} of the model and asked for another; see max_steps"
            return JobEnd(Status.INCOMPLETE, "too_many_steps", text)
        if called and self._job.request.tool_results is not None:
            text = "a tool was called that tool_results has no answer for"
            return JobEnd(Status.INCOMPLETE, "tool_call_unanswered", text)
        if called and self._to_play:
            return JobEnd(Status.INCOMPLETE, "tool_call_unanswered", f"a tool was called; {left}")
        return None


def _given_up(kept: Attempt) -> JobEnd:
    """Return how a job ends in which the attempts of an answer ran out."""
    text = f"the attempts of turn {kept.key.turn} ran out; the best one is kept"
    return JobEnd(Status.INCOMPLETE, kept.retry_reason, text)


def _answer(attempt: Attempt) -> tuple[int, ...]:
    """Return the tokens of an answer so far, those of the attempt that it goes on from included."""
    return (*attempt.generation.response_prefill, *attempt.generation.tokens)


def _failure(attempt: Attempt, reason: RetryReason) -> Failure:
    """Return what became of an attempt that was not accepted because of `reason`."""
    begun = attempt.continues or attempt.rescued
    return Failure(
        reason=reason,
        stuck=STUCK in attempt.generation.parse.problems,
        cut=not begun and can_go_on(reason, attempt.generation, attempt.sampling.max_tokens),
    )


def _used(planned: Plan, generation: Generation) -> Sampling:
    """Return the sampling as it really was: the context may have held less than was planned."""
    had = planned.max_tokens if generation.max_tokens is None else generation.max_tokens
    return msgspec.structs.replace(planned.sampling, max_tokens=had)


def _verdict(decision: Decision) -> tuple[Verdict, RetryReason | None]:
    match decision:
        case Accept():
            return Verdict.ACCEPT, None
        case Continue():
            return Verdict.RETRY, RetryReason.LENGTH
        case Retry(reason):
            return Verdict.RETRY, reason
        case GiveUp(reason):
            return Verdict.GIVE_UP, reason
