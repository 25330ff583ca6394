"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import EnvironmentFault, JobError, ModelChanged, ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.record import Attempt, ClaimedJob, Crash, JobEnd, Place, Refused
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.clock import now

from . import artifacts
from .background import Background
from .conversation import ConversationRun, Finish, Generate, Record
from .display import Display
from .model_client import Death, ProcessDied
from .model_host import ModelHost
from .store_thread import StoreThread

MAX_CRASHES = 2
"""How often in a row the model may die on one attempt before its job is given up."""

COUNT_SECONDS = 5.0
RELOAD_PAUSES = (1.0, 5.0, 30.0)


class EndReason(StrEnum):
    """Why a drain ended, as the `runs` table has it."""

    EMPTY = "queue_empty"
    STOPPED = "stopped"
    KILLED = "stopped_now"
    ERROR = "error"


class DrainOptions(msgspec.Struct, frozen=True):
    """What a drain goes by.

    `model` serves jobs that name none; `None` if there is no such model. `run_id` is its row in
    `runs`. Between two jobs the model process is replaced once it holds more than `recycle_bytes`;
    `None` keeps it. The folder `logs` takes the files of those attempts that `artifacts` says.
    """

    run_id: int
    model: str | None
    recycle_bytes: int | None
    logs: Path
    artifacts: artifacts.Keep


class Tally(msgspec.Struct):
    """What a drain has done so far; `decoded_tokens` took `decode_seconds`, over all attempts.

    `batches` are those of the finished jobs.
    """

    ended: dict[Status, int] = {}
    batches: set[int] = set()
    decoded_tokens: int = 0
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


class Ready(NamedTuple):
    """A claimed job and the run that plays it."""

    job: ClaimedJob
    run: ConversationRun


class Drain:
    """Takes jobs from the queue, one at a time, until it is empty or a stop is asked for.

    The model never waits for the disk: while it generates, the job after this one is claimed and
    its prompt rendered, and what the last attempt brought is written. At most one write is under
    way, and nothing is told as done before it is on disk.
    """

    def __init__(
        self, options: DrainOptions, store: StoreThread, host: ModelHost, display: Display
    ) -> None:
        self.tally = Tally()
        self.stop = Stop()
        self._options = options
        self._store = store
        self._host = host
        self._display = display
        self._refused = Refused()
        self._fault: EnvironmentFault | None = None
        self._ahead: Background[Ready | None] | None = None
        self._write: Background[None] | None = None
        self._process_bytes = 0
        self._waiting = 0
        self._count_again = 0.0

    async def run(self, tasks: TaskGroup) -> EndReason:
        """Drain the queue, with `tasks` for what runs beside the model.

        Raises `EnvironmentFault` where it cannot go on; a model that does not load, or is not the
        one a batch began with, only once all other jobs are over. Jobs it had claimed and not
        finished are still `running` then and after a stop: whoever ends the drain puts them back.
        """
        while not self.stop.soon:
            ready = await self._next()
            if ready is None:
                await self._written()
                if self._fault is not None:
                    raise self._fault
                return EndReason.EMPTY
            await self._converse(ready, tasks)
            await self._between_jobs()
        await self._written()
        return EndReason.STOPPED

    async def _next(self) -> Ready | None:
        """Return the next job, its model in memory; `None` when the queue is empty."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ready := await ahead.result()) is not None:
            await self._reload(ready.job)
            return ready
        while not self.stop.soon:
            default, loaded = self._options.model, self._host.loaded
            model = await self._store.call(queue.next_model, default, loaded, self._refused)
            if model is None:
                return None
            try:
                await self._load(model)
            except ModelNotLoaded as fault:
                self._pass_over(fault, models=self._refused.models | {model})
                continue
            ready = await self._claim()
            if ready is not None:
                return ready
        return None

    async def _load(self, model: str) -> None:
        """Have `model` in memory; tell and record it if it was not."""
        if self._host.loaded == model:
            return
        self._display.note(f"loading {model}")
        info = await self._host.ensure(model)
        await self._store.call(queue.set_run_model, self._options.run_id, info)
        self._display.note(f"loaded {model} ({info.architecture}, {info.adapter}) on {info.device}")

    async def _reload(self, job: ClaimedJob) -> None:
        """Have the model of a claimed job in memory again, after a death or a fresh start.

        The moment after a fault of the device is the likeliest for another one, so it is tried a
        few times. Raises `ModelNotLoaded` when all of them failed, and
        `ModelChanged` if other weights came back.
        """
        for pause in RELOAD_PAUSES:
            try:
                await self._load(job.model)
            except ModelNotLoaded as fault:
                self._display.note(f"{fault}; trying again in {pause} s")
                await anyio.sleep(pause)
            else:
                return
        await self._load(job.model)

    def _pass_over(self, fault: EnvironmentFault, **refused: Any) -> None:
        """Leave the jobs that a fault concerns in the queue and go on with the others."""
        self._refused = msgspec.structs.replace(self._refused, **refused)
        self._fault = self._fault or fault
        self._display.note(f"{fault}; its jobs stay queued")

    async def _claim(self) -> Ready | None:
        """Take the next job if it is one for the model in memory."""
        info, options = self._host.info, self._options
        if info is None:
            return None
        try:
            job = await self._store.call(
                queue.claim, options.run_id, info, options.model, self._refused
            )
        except ModelChanged as fault:
            changed = {(fault.batch_id, info.name)} if fault.batch_id is not None else set()
            self._pass_over(fault, in_batches=self._refused.in_batches | changed)
            return None
        if job is None:
            return None
        recorded = await self._store.call(queue.recorded, job.id)
        return Ready(job, ConversationRun.resume(job, recorded))

    async def _claim_ahead(self) -> Ready | None:
        """Claim the job after the running one and have its prompt rendered."""
        ready = await self._claim()
        if ready is not None and isinstance(action := ready.run.next(), Generate):
            await self._host.prepare(self._shown(action.request))
        return ready

    async def _converse(self, ready: Ready, tasks: TaskGroup) -> None:
        """Play a job to its end, or to the end of a turn if a stop was asked for."""
        job, run = ready
        self._ahead = Background(tasks, self._claim_ahead)
        guidance = None
        while not (self.stop.soon and run.between_turns):
            match run.next():
                case Generate(place, request):
                    guidance = request.prompt.guidance
                    await self._attempt(job, run, place, self._shown(request))
                case Record() as record:
                    await self._written()
                    write = partial(self._record, job, record, guidance)
                    self._write = Background(tasks, write)
                    if record.end is not None:
                        return
                case Finish(end):
                    await self._written()
                    self._write = Background(tasks, partial(self._finish, job, end))
                    return

    async def _attempt(
        self, job: ClaimedJob, run: ConversationRun, place: Place, request: GenerationRequest
    ) -> None:
        started_at, began = now(), time.perf_counter()
        self._display.attempt_started(job, place)
        try:
            generation = await self._host.generate(request, self._display.tokens)
        except JobError as error:
            run.fail(error.code, str(error))
        except ProcessDied as error:
            await self._survive(job, run, place, error.death)
        else:
            generation = with_queue_seconds(generation, time.perf_counter() - began)
            self._process_bytes = generation.timings.process_memory_bytes
            # the first token of an answer is the prefill's
            self.tally.decoded_tokens += max(0, len(generation.tokens) - 1)
            self.tally.decode_seconds += generation.timings.decode_seconds
            run.feed(generation, started_at, now())

    async def _survive(
        self, job: ClaimedJob, run: ConversationRun, place: Place, death: Death
    ) -> None:
        """Write down a death of the model process and bring it back, or give the job up."""
        crash = Crash(place, "generate", death.signal, death.exit_code, death.stderr_tail)
        await self._store.call(queue.record_crash, job.id, self._options.run_id, crash)
        deaths = await self._store.call(queue.crashes_on, job.id, place)
        self._display.note(f"the model process died on {job.custom_id}: {death}")
        if deaths >= MAX_CRASHES:
            run.fail("model_crashed", f"the model process died {deaths} times on it: {death}")
        else:
            await self._reload(job)

    def _shown(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request, asking for the rendered prompt where an artifact is made of it."""
        return msgspec.structs.replace(request, render=self._options.artifacts != "off")

    async def _record(self, job: ClaimedJob, record: Record, guidance: str | None) -> None:
        """Write an attempt; its files first, so that what is committed has them.

        Files without an attempt, after a death in between, are overwritten by that same attempt.
        """
        run_id, (attempt, turn, end) = self._options.run_id, msgspec.structs.astuple(record)
        # also when told to stop now: the attempt is whole, and generating it cost far more
        with anyio.CancelScope(shield=True):
            await self._write_artifacts(job, attempt, guidance)
            await self._store.call(queue.record, job.id, run_id, attempt, turn, end)
        if end is not None:
            await self._tell_end(job, end)

    async def _write_artifacts(
        self, job: ClaimedJob, attempt: Attempt, guidance: str | None
    ) -> None:
        if artifacts.wanted(self._options.artifacts, attempt):
            files = artifacts.files(attempt, guidance, job.settings.control.max_attempts)
            folder = artifacts.folder(self._options.logs, job)
            await anyio.to_thread.run_sync(artifacts.write, folder, files)

    async def _finish(self, job: ClaimedJob, end: JobEnd) -> None:
        await self._store.call(queue.finish, job.id, end)
        await self._tell_end(job, end)

    async def _tell_end(self, job: ClaimedJob, end: JobEnd) -> None:
        """Count a job whose end is on disk, and show it."""
        self.tally.ended[end.status] = self.tally.ended.get(end.status, 0) + 1
        self.tally.batches.add(job.batch_id)
        self._display.job_ended(job, end, self.tally, await self._count_waiting())

    async def _count_waiting(self) -> int:
        """Return how many jobs are not finished: queued, claimed ahead or already on the model.

        Counted anew only every few seconds: it is a walk over the index of a queue that may hold
        a million jobs, and others may have submitted meanwhile.
        """
        self._waiting = max(0, self._waiting - 1)
        if not self._waiting or time.monotonic() >= self._count_again:
            counts = await self._store.call(queue.queue_counts)
            self._waiting = counts[Status.QUEUED] + counts[Status.RUNNING]
            self._count_again = time.monotonic() + COUNT_SECONDS
        return self._waiting

    async def _written(self) -> None:
        """Wait until the last write is on disk; raises what kept it from getting there."""
        if self._write is not None:
            await self._write.result()
            self._write = None

    async def _between_jobs(self) -> None:
        """Let memory be given back, and end a model process that has grown too large."""
        await self._host.settle()
        limit = self._options.recycle_bytes
        if limit is not None and self._process_bytes > limit:
            used = f"{self._process_bytes / 2**30:.1f} GiB"
            self._display.note(f"the model process holds {used}: starting a new one")
            self._process_bytes = 0
            await self._host.recycle()


def with_queue_seconds(generation: Generation, wall_seconds: float) -> Generation:
    """Return the generation with the wait outside the model's own work in its timings."""
    t = generation.timings
    busy = t.render_seconds + t.first_token_seconds + t.decode_seconds + t.parse_seconds
    timings = msgspec.structs.replace(t, queue_seconds=max(0.0, wall_seconds - busy))
    return msgspec.structs.replace(generation, timings=timings)
