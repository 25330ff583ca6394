"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import time
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import anyio
import msgspec

from mh_batch.jobs.errors import JobError, StoreUnusable
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.record import ClaimedJob, Crash, JobEnd, Place
from mh_batch.jobs.status import Status
from mh_batch.store import queue, reports

from .conversation import ConversationRun, Finish, Generate, Record
from .display import Display
from .model_client import Death, ProcessDied
from .model_host import ModelHost
from .store_thread import StoreThread

MAX_CRASHES = 2
"""How often in a row the model may die on one attempt before its job is given up."""

COUNT_SECONDS = 5.0


class EndReason(StrEnum):
    """Why a drain ended, as the `runs` table has it."""

    EMPTY = "queue_empty"
    STOPPED = "stopped"
    KILLED = "stopped_now"
    ERROR = "error"


class Work(msgspec.Struct, frozen=True):
    """What one drain is to do.

    `model` serves jobs that name none; `None` if there is no such model. `logs` is the folder of
    the worker's log.
    """

    db: Path
    model: str | None
    logs: Path


class Tally(msgspec.Struct):
    """What a drain has done so far; `tokens` are completion tokens of all attempts."""

    ended: dict[Status, int] = {}
    tokens: int = 0
    decode_seconds: float = 0.0

    @property
    def jobs(self) -> int:
        """How many jobs were finished."""
        return sum(self.ended.values())

    @property
    def all_well(self) -> bool:
        """Whether every finished job is done."""
        return self.jobs == self.ended.get(Status.DONE, 0)


class Stop:
    """How urgently the drain is to end: `soon` at the end of the turn, or not at all yet."""

    def __init__(self) -> None:
        self.soon = False
        self.now = anyio.Event()

    def ask(self) -> bool:
        """Take one request to stop; return whether it is the first."""
        if self.soon:
            self.now.set()
            return False
        self.soon = True
        return True


class Drain:
    """Takes jobs from the queue, one at a time, until it is empty or a stop is asked for."""

    def __init__(
        self,
        default_model: str | None,
        store: StoreThread,
        host: ModelHost,
        run_id: int,
        display: Display,
    ) -> None:
        self.tally = Tally()
        self.stop = Stop()
        self.store = store
        self.host = host
        self.run_id = run_id
        self._default_model = default_model
        self._display = display
        self._waiting = 0
        self._count_again = 0.0

    async def run(self) -> EndReason:
        """Drain the queue; raises `EnvironmentFault` where it cannot go on."""
        while not self.stop.soon:
            default, loaded = self._default_model, self.host.loaded
            model = await self.store.call(queue.next_model, default, loaded)
            if model is None:
                return EndReason.EMPTY
            if model != loaded:
                await self._load(model)
                continue
            info = await self.host.ensure(model)
            job = await self.store.call(queue.claim, self.run_id, info, default)
            if job is not None:
                await self._keep_or_release(job)
        return EndReason.STOPPED

    async def _load(self, model: str) -> None:
        self._display.note(f"loading {model}")
        info = await self.host.ensure(model)
        await self.store.call(queue.set_run_model, self.run_id, info)
        self._display.note(f"loaded {model} ({info.architecture}, {info.adapter}) on {info.device}")

    async def _keep_or_release(self, job: ClaimedJob) -> None:
        """Play a job; however it is interrupted, it goes back into the queue."""
        try:
            ended = await self._converse(job)
        except BaseException:
            # a store that fails again must not hide why; the next worker's recovery requeues it
            with suppress(StoreUnusable):
                await self.store.call(queue.release, job.id)
            raise
        if ended is None:
            await self.store.call(queue.release, job.id)
            return
        self.tally.ended[ended.status] = self.tally.ended.get(ended.status, 0) + 1
        self._display.job_ended(job, ended, self.tally, await self._count_waiting())

    async def _count_waiting(self) -> int:
        """Return how many jobs are queued; counted again only every few seconds, for it is a walk
        over the index of a queue that may hold a million, and others may have submitted."""
        self._waiting = max(0, self._waiting - 1)
        if not self._waiting or time.monotonic() >= self._count_again:
            counts = await self.store.call(reports.queue_counts)
            self._waiting = counts[Status.QUEUED]
            self._count_again = time.monotonic() + COUNT_SECONDS
        return self._waiting

    async def _converse(self, job: ClaimedJob) -> JobEnd | None:
        """Play a job to its end and return it, or `None` if a stop came between two turns."""
        run = ConversationRun.resume(job, await self.store.call(queue.recorded, job.id))
        while True:
            if self.stop.soon and run.between_turns:
                return None
            match run.next():
                case Generate(place, request):
                    await self._attempt(job, run, place, request)
                case Record(attempt, turn, end):
                    await self.store.call(queue.record, job.id, self.run_id, attempt, turn, end)
                    if end is not None:
                        return end
                case Finish(end):
                    await self.store.call(queue.finish, job.id, end)
                    return end

    async def _attempt(
        self, job: ClaimedJob, run: ConversationRun, place: Place, request: GenerationRequest
    ) -> None:
        started_at, began = _now(), time.perf_counter()
        self._display.attempt_started(job, place)
        try:
            generation = await self.host.generate(request, self._display.tokens)
        except JobError as error:
            run.fail(error.code, str(error))
        except ProcessDied as error:
            await self._survive(job, run, place, error.death)
        else:
            generation = with_queue_seconds(generation, time.perf_counter() - began)
            self.tally.tokens += len(generation.tokens)
            self.tally.decode_seconds += generation.timings.decode_seconds
            run.feed(generation, started_at, _now())

    async def _survive(
        self, job: ClaimedJob, run: ConversationRun, place: Place, death: Death
    ) -> None:
        """Write down a death of the model process and bring it back, or give the job up."""
        crash = Crash(place, "generate", death.signal, death.exit_code, death.stderr_tail)
        await self.store.call(queue.record_crash, job.id, self.run_id, crash)
        deaths = await self.store.call(queue.crashes_on, job.id, place)
        self._display.note(f"the model process died on {job.custom_id}: {death}")
        if deaths >= MAX_CRASHES:
            run.fail("model_crashed", f"the model process died {deaths} times on it: {death}")
        else:
            await self.host.ensure(job.model)


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the wait outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
