"""The jobs that are being played, and their attempts that are with the model."""

import time
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError, MhBatchError
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.record import AttemptKey, ClaimedJob
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.model_process.client import Answer
from mh_batch.worker.model_process.death import ProcessDied
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import AutoResetEvent

from .stop_wait import Decoding

LEAST_AHEAD = 2
"""How many prompts are read ahead at least while all slots are busy."""


class ActiveJob:
    """A claimed job that is being played.

    `over` is set once the job ended or went back to the queue: late answers are dropped then.
    """

    def __init__(self, job: ClaimedJob, run: JobRun) -> None:
        self.job = job
        self.run = run
        self.over = False


class OpenAttempt(NamedTuple):
    """An attempt that is with the model.

    `started_at` is when it went there, `began` the same by the clock of durations. A `suspect` runs
    alone. `guidance` is the remark in its prompt, `None` for none.
    """

    active: ActiveJob
    key: AttemptKey
    suspect: bool
    guidance: str | None
    started_at: str
    began: float

    @property
    def job(self) -> ClaimedJob:
        """The job of the attempt."""
        return self.active.job


class Answered(NamedTuple):
    """What came of an attempt: its generation, or the error that concerns it alone."""

    attempt: OpenAttempt
    outcome: Generation | MhBatchError


class OpenAttempts:
    """The attempts that are with the model: sends them, and waits for what comes of them.

    All of them decode in the same number of slots. After `ProcessDied`, `lost` has those that the
    process took along.
    """

    def __init__(self, context: DrainContext) -> None:
        self._supervisor = context.supervisor
        self._display = context.display
        self._open: dict[int, OpenAttempt] = {}
        self._decoding: dict[int, Decoding] = {}
        self._answer: Background[Answer] | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def parallel(self) -> int:
        """In how many slots they decode; raises `StopIteration` if there are none."""
        return next(iter(self._open.values())).job.parallel

    @property
    def has_suspect(self) -> bool:
        """Whether the attempt there is has to run alone."""
        return any(attempt.suspect for attempt in self._open.values())

    def has_room(self, most: int | None) -> bool:
        """Whether one more may go there, beside those that there are.

        While all slots are busy, the prompts of a few more are read ahead. `most` is how many may
        be there after deaths of several together; `None` for as many as the model takes.
        """
        if most is not None:
            return len(self) < min(most, self.parallel)
        ahead = max(LEAST_AHEAD, self.parallel // 4) if self.parallel > 1 else 0
        return len(self) < self.parallel + ahead

    async def begin(self, attempt: OpenAttempt, request: GenerationRequest) -> bool:
        """Send an attempt to the model; raises `JobError` if that cannot be, and `ProcessDied`.

        Returns `False` if the process has just died of others: `next` is about to say so.
        """
        if self._open and not self._supervisor.running:
            return False
        self._display.attempt_started(attempt.job, attempt.key)
        try:
            with at_stage("generate"):
                number = await self._supervisor.begin(request)
        except ProcessDied:
            self._open[-1] = attempt
            raise
        except JobError:
            self._display.attempt_ended(attempt.job, attempt.key)
            raise
        self._open[number], self._decoding[number] = attempt, Decoding(_most_tokens(request))
        return True

    async def next(self, tasks: TaskGroup, wakeup: AutoResetEvent) -> Answered | None:
        """Wait for the next answer of the model; raises `ProcessDied`.

        Returns `None` if `wakeup` was set for another reason.
        """
        if self._answer is None:
            ask = partial(self._supervisor.next_answer, self._report_tokens)
            self._answer = Background(tasks, ask, wakeup.set)
        await wakeup.wait()
        if not self._answer.done:
            return None
        answer, self._answer = self._answer, None
        request, outcome = await answer.result()
        attempt = self._open.pop(request)
        self._decoding.pop(request, None)
        self._display.attempt_ended(attempt.job, attempt.key)
        if isinstance(outcome, Generation):
            outcome = with_queue_seconds(outcome, time.perf_counter() - attempt.began)
        return Answered(attempt, outcome)

    def lost(self) -> dict[int, OpenAttempt]:
        """Return the attempts that a death of the process took along, by request; forget them."""
        lost, self._open, self._decoding, self._answer = self._open, {}, {}, None
        for attempt in lost.values():
            self._display.attempt_ended(attempt.job, attempt.key)
        return lost

    async def cancel(self, jobs: Collection[int]) -> None:
        """Cancel the attempts of these jobs; they are still answered."""
        for request, attempt in list(self._open.items()):
            if attempt.job.id in jobs:
                await self._supervisor.cancel(request)

    async def take_back_unbegun(self) -> None:
        """After a request to stop, take back what waits for a slot: nothing of it is lost."""
        for request, attempt in list(self._open.items()):
            if self._waits_for_slot(request, attempt):
                await self._supervisor.cancel(request)

    def decoding(self) -> list[Decoding]:
        """Return how far the attempts are that are not taken back after a request to stop.

        Any thread may ask: a display has its own.
        """
        attempts, decoding = self._open.copy(), self._decoding.copy()
        return [
            how_far
            for request, how_far in decoding.items()
            if request in attempts and not self._waits_for_slot(request, attempts[request])
        ]

    def _waits_for_slot(self, request: int, attempt: OpenAttempt) -> bool:
        """Whether an attempt waits for one of several slots, or for its prompt to be read."""
        alone = attempt.job.parallel == 1
        return not alone and self._supervisor.phases.get(request) != "decode"

    def _report_tokens(self, request: int, tokens: int) -> None:
        attempt = self._open.get(request)
        if attempt is not None:
            self._decoding[request].take(tokens, time.monotonic())
            self._display.tokens(attempt.job, attempt.key, tokens)


def _most_tokens(request: GenerationRequest) -> int:
    """Return how many tokens an attempt gets at most."""
    if request.continues is not None:
        return request.continues.max_tokens
    return request.sampling.max_tokens


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the time outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)
