"""The attempts at one answer of the model, a step of a conversation."""

from collections.abc import Sequence

import msgspec

from mh_batch.jobs.answers.forms import AUTO, ToolChoice, tool_choice_of
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Continuation, Generation, GenerationRequest, Prompt
from mh_batch.jobs.record import Attempt, AttemptKey, ClaimedJob, CompletedStep, StepKey, Verdict
from mh_batch.jobs.seeds import attempt_seed
from mh_batch.jobs.settings import Sampling

from .retry_policy import (
    Accept,
    Continue,
    Decision,
    Failure,
    GiveUp,
    Plan,
    Retry,
    RetryReason,
    best,
    decide,
    failure_of,
    plan,
)


class StepRun:
    """Requests attempts at one answer and judges them, until one is accepted or none is left.

    `user` is the text that is answered, `None` for an answer to tool results. Attempts of earlier
    rounds (`mh-batch retry`) keep their numbers, but do not count towards the cap.
    """

    def __init__(
        self, job: ClaimedJob, step: StepKey, user: str | None, attempts: Sequence[Attempt]
    ) -> None:
        """`attempts` are those on record."""
        self.choice, self.turn, self.step = step
        self._job = job
        self._user = user
        self._form = job.settings.output.form
        self._earlier = [a for a in attempts if a.round < job.round]
        self._attempts = [a for a in attempts if a.round == job.round]

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts, in order."""
        return [*self._earlier, *self._attempts]

    @property
    def key(self) -> AttemptKey:
        """The key of the next attempt."""
        return AttemptKey(self.choice, self.turn, self.step, len(self.attempts) + 1)

    def request(self, history: Sequence[Message]) -> GenerationRequest:
        """Return the request of the next attempt; `history` is the conversation so far."""
        settings, planned = self._job.settings, self._plan()
        prompt = Prompt(
            messages=tuple(history),
            date=self._job.date,
            tools=self._job.request.tools,
            prompting=settings.prompting,
            guidance=planned.guidance,
            form=self._form,
            tool_choice=self._tool_choice(),
        )
        so_far = _answer(self._attempts[-1]) if self._attempts else ()
        return GenerationRequest(
            prompt=prompt,
            sampling=planned.sampling,
            context=settings.context,
            seed=self._seed(planned),
            forced_final=so_far if planned.forced_final else (),
            continues=Continuation(so_far, planned.max_tokens) if planned.continues else None,
            parallel=self._job.parallel,
        )

    def is_good(self, generation: Generation) -> bool:
        """Whether the next attempt is accepted unless a check rejects it."""
        return isinstance(self._decide(generation, self._plan(), rejected=False), Accept)

    def judge(
        self,
        generation: Generation,
        started_at: str,
        finished_at: str,
        rejected: str | None = None,
    ) -> Attempt:
        """Return the next attempt with its verdict, and count it.

        `rejected` is why a check did not accept it, `None` if it did or there was none.
        """
        planned = self._plan()
        decision = self._decide(generation, planned, rejected=rejected is not None)
        verdict, reason = _verdict(decision)
        attempt = Attempt(
            key=self.key,
            verdict=verdict,
            retry_reason=reason,
            seed=self._seed(planned),
            sampling=_used(planned, generation),
            generation=generation,
            rescued=planned.forced_final and bool(generation.response_prefill),
            continues=_continues(planned, generation),
            started_at=started_at,
            finished_at=finished_at,
            round=self._job.round,
            rejected=rejected if reason is RetryReason.REJECTED else None,
        )
        self._attempts.append(attempt)
        return attempt

    def complete(self, since: int) -> CompletedStep:
        """Return the completed turn: the accepted attempt, else the best one.

        Attempts of rounds before `since` followed another answer, and are not considered.
        """
        attempts = [*(a for a in self._earlier if a.round >= since), *self._attempts]
        accepted = self._attempts[-1].verdict is Verdict.ACCEPT
        kept = attempts[-1 if accepted else best([a.generation for a in attempts])]
        parse = kept.generation.parse
        return CompletedStep(
            key=kept.key,
            user=self._user,
            final=parse.text("final"),
            analysis=parse.text("analysis"),
            finish_reason=kept.generation.finish_reason,
            attempts=len(self.attempts),
            rescued=kept.rescued,
            complete=accepted,
            parsed=parse.parsed(self._form),
        )

    def _tool_choice(self) -> ToolChoice:
        """Return whether this step may or must call a tool; behind a result it always may."""
        choice = tool_choice_of(self._job.settings.output.tool_choice)
        return AUTO if self.step and choice.mode == "required" else choice

    @property
    def _max_attempts(self) -> int:
        return self._job.settings.control.max_attempts

    def _plan(self) -> Plan:
        return plan(self._job.settings.sampling, self._failures(), self._max_attempts)

    def _decide(self, generation: Generation, planned: Plan, *, rejected: bool) -> Decision:
        checked = self._job.settings.sampling.loop_detection != "off"
        # a continuation is outside the cap
        before = sum(not a.continues for a in self._attempts)
        number = before + (not _continues(planned, generation))
        return decide(
            generation,
            planned,
            number,
            self._max_attempts,
            repetition=checked,
            form=self._form,
            rejected=rejected,
        )

    def _seed(self, planned: Plan) -> int:
        """Return the seed of the next attempt; a continuation keeps that of its first part."""
        if planned.continues:
            return self._attempts[-1].seed
        return attempt_seed(self._job.seed, self.key)

    def _failures(self) -> list[Failure]:
        """Return the failed attempts of this round; a continuation replaces what it continues."""
        failures: list[Failure] = []
        for attempt in self._attempts:
            if attempt.continues:
                del failures[-1:]
            if attempt.retry_reason is not None:
                failures.append(
                    failure_of(
                        attempt.generation,
                        RetryReason(attempt.retry_reason),
                        attempt.sampling.max_tokens,
                        from_scratch=not (attempt.continues or attempt.rescued),
                        rejected=attempt.rejected,
                    )
                )
        return failures


def _continues(planned: Plan, generation: Generation) -> bool:
    """Whether an attempt is a continuation: without room for it the engine begins from scratch."""
    return planned.continues and bool(generation.response_prefill)


def _answer(attempt: Attempt) -> tuple[int, ...]:
    """Return the tokens of an answer so far, the part that it continues included."""
    return (*attempt.generation.response_prefill, *attempt.generation.tokens)


def _used(planned: Plan, generation: Generation) -> Sampling:
    """Return the sampling as it was: the context may have held fewer tokens than planned."""
    had = planned.max_tokens if generation.max_tokens is None else generation.max_tokens
    return msgspec.structs.replace(planned.sampling, max_tokens=had)


def _verdict(decision: Decision) -> tuple[Verdict, RetryReason | None]:
    match decision:
        case Accept():
            return Verdict.ACCEPT, None
        case Continue(reason) | Retry(reason):
            return Verdict.RETRY, reason
        case GiveUp(reason):
            return Verdict.GIVE_UP, reason
