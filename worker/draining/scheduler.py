"""Where the jobs of a drain come from: claimed one by one, with their model in memory."""

import math
import time
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import EnvironmentFault, JobError, ModelChanged, ModelNotLoaded, NoModel
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.jobs.record import ClaimedJob, JobEnd, SkippedModels
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.draining.reporter import Display
from mh_batch.worker.model_process.client import Death
from mh_batch.worker.model_process.metal import WATCHDOG_SECONDS
from mh_batch.worker.model_process.supervisor import LoadDied, ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import EndReason, Stop
from mh_batch.worker.runtime.store_thread import StoreThread

from .recorder import Recorder

RELOAD_PAUSES = (1.0, 5.0, 30.0)

CURE_SECONDS = 60.0
"""How long a worker that waits leaves a model alone that failed, before it tries it again."""


class ClaimedRun(NamedTuple):
    """A claimed job and the run that plays it, or why it cannot be played."""

    job: ClaimedJob
    run: ConversationRun | JobError

    def first_request(self) -> Generate | None:
        """Return the generation that the run begins with; `None` if there is none.

        What goes wrong here is told when the job's turn comes.
        """
        if isinstance(self.run, JobError):
            return None
        with suppress(JobError), at_stage("next"):
            action = self.run.next()
            return action if isinstance(action, Generate) else None
        return None


class Scheduler:
    """Hands out claimed jobs, and passes over those whose model is not to be had.

    One job is claimed ahead, so that its prompt is rendered while the model works on another.
    """

    def __init__(
        self,
        task: DrainOptions,
        run_id: int,
        store: StoreThread,
        host: ModelSupervisor,
        writer: Recorder,
        stop: Stop,
        display: Display,
    ) -> None:
        """Take what the drain has; `stop` is asked whether it goes on."""
        self._task = task
        self._run_id = run_id
        self._store = store
        self._host = host
        self._writer = writer
        self._stop = stop
        self._display = display
        self._refused = SkippedModels()
        self._fault: EnvironmentFault | None = None
        self._passed_over_at = 0.0
        self._ahead: Background[ClaimedRun | None] | None = None
        self._taken = 0
        self._idle = False

    @property
    def spent(self) -> bool:
        """Whether as many jobs were taken as were asked for."""
        return self._task.max_jobs is not None and self._taken >= self._task.max_jobs

    async def next(self) -> ClaimedRun | None:
        """Return the next job, its model in memory; `None` if there is none to be had."""
        ahead, self._ahead = self._ahead, None
        ready = await ahead.result() if ahead is not None else None
        if ready is not None and await self.reload(ready):
            return ready
        while not self._stop.soon and not self.spent:
            model = await self._next_model()
            if model is None:
                return None
            if await self.have(model) and (ready := await self._claim()) is not None:
                return ready
        return None

    def claim_ahead(self, tasks: TaskGroup) -> None:
        """Begin to claim the job after the one that is begun, and to have its prompt rendered."""
        self._idle = False
        self._ahead = Background(tasks, self._claim_ahead)

    async def new_work(self) -> bool:
        """Wait until there may be something to do; return at once if that is not wanted.

        That is when somebody wrote to the database, and where jobs were passed over, after
        `CURE_SECONDS`. Raises what kept jobs in the queue if nobody is to wait for its cure, or
        not any longer. Returns `False` when the drain is to end, for it ends with an empty queue.
        """
        if not self._task.watch:
            if self._fault is not None:
                raise self._fault
            return False
        if not self._idle:
            why = "the queue is empty" if self._fault is None else "what is left cannot be done now"
            self._display.note(f"{why}: waiting for new work")
        self._idle = True
        with anyio.move_on_after(self._cure_seconds):
            await self._stop.bell.heard()
        if self._stop.soon:
            if self._fault is not None:
                raise self._fault
            return self._stop.reason is not EndReason.STOPPED
        if self._fault is not None and not self._cure_seconds:
            # what did not load may be there by now
            self._refused, self._fault = SkippedModels(), None
        return True

    @property
    def _cure_seconds(self) -> float:
        """How long what was passed over is left alone still; without end if nothing was."""
        if self._fault is None:
            return math.inf
        return max(0.0, self._passed_over_at + CURE_SECONDS - time.monotonic())

    async def _next_model(self) -> str | None:
        """Return the model that the next claim needs; `None` when there is nothing to claim."""
        default, loaded = self._task.model, self._host.loaded
        try:
            return await self._store.call(queue.next_model, default, loaded, self._refused)
        except NoModel as fault:
            if not self._task.watch:
                raise
            self._display.note(str(fault))
            return None

    async def have(self, model: str, ready: ClaimedRun | None = None) -> bool:
        """Have `model` in memory, for the claimed job in `ready` if there is one.

        The moment after a fault of the device is the likeliest for another one, so one that took
        the process along, or that a claimed job was promised, is tried a few times. Returns `False`
        if a stop came before it loaded, or if it does not load or has other weights now: then its
        jobs are passed over.
        """
        pauses = iter(RELOAD_PAUSES)
        while not self._stop.soon:
            try:
                with self._stop.cutting_short():
                    await self._load(model)
                    return True
            except (ModelNotLoaded, ModelChanged) as fault:
                if ready is not None and isinstance(fault, LoadDied):
                    await self._record_load_death(ready, fault.death)
                pause = next(pauses, None) if passing(fault, promised=ready is not None) else None
                if pause is None:
                    self._skip(fault, models=self._refused.models | {model})
                    return False
                if isinstance(fault, LoadDied) and fault.death.by_watchdog:
                    pause = max(pause, WATCHDOG_SECONDS)
                await self.pause(str(fault), pause)
        return False

    async def pause(self, why: str, seconds: float) -> None:
        """Wait before a model is tried again, and say why; a stop ends it at once."""
        self._display.note(f"{why}; trying again in {seconds:g} s")
        with self._stop.cutting_short():
            await anyio.sleep(seconds)

    async def _load(self, model: str) -> None:
        """Have `model` in memory; tell and record it if it was not."""
        if self._host.loaded == model:
            return
        self._display.note(f"loading {model}")
        info = await self._host.ensure(model)
        await self._store.call(queue.set_run_model, self._run_id, info)
        self._display.note(f"loaded {model} ({info.architecture}, {info.adapter}) on {info.device}")

    async def reload(self, ready: ClaimedRun) -> bool:
        """Have the model of a claimed job in memory again, after a death or a fresh start.

        If it does not come the job goes back to the queue, with all others of that model, and
        `False` is returned.
        """
        job = ready.job
        if not self._refused.holds(job.batch_id, job.model) and await self.have(job.model, ready):
            return True
        await self._put_back(job)
        return False

    async def _put_back(self, job: ClaimedJob) -> None:
        """Queue a claimed job again; one that somebody wants ended is cancelled instead."""
        await self._writer.written()
        if self._writer.has_failed(job):
            return
        if await self._store.call(queue.release, job.id) is Status.CANCELLED:
            await self._writer.report_end(job, JobEnd(Status.CANCELLED))
        else:
            self._taken -= 1

    def _skip(self, fault: EnvironmentFault, **refused: Any) -> None:
        """Leave the jobs that a fault concerns in the queue and go on with the others."""
        self._refused = msgspec.structs.replace(self._refused, **refused)
        self._fault = self._fault or fault
        self._passed_over_at = time.monotonic()
        self._display.note(f"{fault}; its jobs stay queued")

    async def _claim(self) -> ClaimedRun | None:
        """Take the next job if it is one for the model in memory, and one more is wanted."""
        info = self._host.info
        if info is None or self.spent:
            return None
        try:
            job = await self._store.call(
                queue.claim, self._run_id, info, self._task.model, self._refused
            )
        except ModelChanged as fault:
            changed = {(fault.batch_id, info.name)} if fault.batch_id is not None else set()
            self._skip(fault, in_batches=self._refused.in_batches | changed)
            return None
        if job is None:
            return None
        self._taken += 1
        return ClaimedRun(job, await self._resume(job))

    async def _resume(self, job: ClaimedJob) -> ConversationRun | JobError:
        """Return the run of a job as its history leaves it, or why it cannot be played."""
        if job.fault is not None:
            return job.fault
        try:
            with at_stage("resume"):
                recorded = await self._store.call(queue.read_history, job.id)
                return ConversationRun.resume(job, recorded)
        except JobError as error:
            return error

    async def _claim_ahead(self) -> ClaimedRun | None:
        """Claim the job after the running one and have its prompt rendered."""
        ready = await self._claim()
        if ready is not None and (first := ready.first_request()) is not None:
            await self._host.prepare(shown(first.request, self._task))
        return ready

    async def _record_load_death(self, ready: ClaimedRun, death: Death) -> None:
        """Write a death down at the attempt that waits for the model; it does not count there."""
        if (first := ready.first_request()) is not None:
            await self._writer.record_crash(ready.job, first.key, death)


def passing(fault: ModelNotLoaded | ModelChanged, *, promised: bool) -> bool:
    """Whether a model that did not load may do so soon; `promised` says that it did before."""
    if isinstance(fault, LoadDied):
        return fault.passing
    return promised and isinstance(fault, ModelNotLoaded)


def shown(request: GenerationRequest, task: DrainOptions) -> GenerationRequest:
    """Return the request, asking for the rendered prompt where an artifact is made of it."""
    return msgspec.structs.replace(request, render=task.artifacts != "off")
