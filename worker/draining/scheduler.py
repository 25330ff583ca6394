"""When a job is claimed, and on which model."""

import anyio
import msgspec
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError, ModelChanged, NoModel
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.jobs.record import ClaimedJob, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import EndReason, Stop
from mh_batch.worker.text.format import format_count

from .context import DrainContext
from .in_flight.claimed_run import ClaimedRun
from .model.loader import ModelLoader
from .recorder import Recorder
from .reporter import OnIdle


class Scheduler:
    """Hands out claimed jobs, and skips jobs whose model cannot be loaded.

    One job is claimed ahead, so that its prompt is rendered while the model runs another.
    """

    def __init__(
        self,
        context: DrainContext,
        recorder: Recorder,
        loader: ModelLoader,
        stop: Stop,
        on_idle: OnIdle,
    ) -> None:
        """Share the drain's recorder, model loader and stop."""
        self._options, self._run_id, self._store, self._supervisor, self._display = context
        self._recorder = recorder
        self._loader = loader
        self._stop = stop
        self._on_idle = on_idle
        self._ahead: Background[ClaimedRun | None] | None = None
        self._taken = 0
        self._idle = False
        self._explained: set[int] = set()

    @property
    def spent(self) -> bool:
        """Whether `max_jobs` jobs were taken."""
        return self._options.max_jobs is not None and self._taken >= self._options.max_jobs

    async def next(self) -> ClaimedRun | None:
        """Return the next job, with its model in memory; `None` if no job can be played."""
        ahead, self._ahead = self._ahead, None
        claimed = await ahead.result() if ahead is not None else None
        if claimed is not None and await self.reload(claimed):
            return claimed
        while not self._stop.soon and not self.spent:
            model = await self._next_model()
            if model is None:
                return None
            if not await self._loader.have(model) or (claimed := await self._claim()) is None:
                continue
            if claimed.job.parallel == 1 or await self.reload(claimed):
                return claimed
        return None

    async def beside(self, parallel: int) -> ClaimedRun | None:
        """Claim a job that can run beside others in so many slots, if that is the next one."""
        if self._stop.soon:
            return None
        if self._ahead is None:
            return await self._claim(only=parallel)
        claimed = await self._ahead.result()
        if claimed is not None and claimed.job.parallel != parallel:
            return None
        self._ahead = None
        return claimed if claimed is not None and await self.reload(claimed) else None

    def claim_ahead(self, tasks: TaskGroup) -> None:
        """Begin to claim the next job and to render its prompt, while this one is played."""
        self._ahead = Background(tasks, self._claim_ahead)

    async def new_work(self) -> bool:
        """With `watch`, wait until there may be work; return whether the drain goes on.

        That is after another process wrote to the database, or when skipped jobs are due again.
        Without `watch`, and after a request to stop, raises the fault that keeps jobs queued.
        """
        fault = self._loader.fault
        if not self._options.watch:
            if fault is not None:
                raise fault
            return False
        if not self._idle:
            why = "the queue is empty" if fault is None else "no queued job can be run now"
            self._display.note(f"{why}: waiting for new work")
            self._on_idle(self._recorder.tally, self._run_id)
        self._idle = True
        with anyio.move_on_after(self._loader.seconds_to_retry):
            await self._stop.wakeup.wait()
        if self._stop.soon:
            if fault is not None:
                raise fault
            if self._stop.reason is EndReason.STOPPED:
                self._stop.end(EndReason.IDLE)
            return True
        if not self._loader.seconds_to_retry:
            self._loader.retry_skipped()
        return True

    async def reload(self, claimed: ClaimedRun) -> bool:
        """Have a claimed job's model in memory again, after a death or a new process.

        If it cannot be loaded, the job goes back to the queue and `False` is returned.
        """
        job = claimed.job
        if self._loader.can_run(job) and await self._loader.have(job.model, claimed):
            return True
        await self._put_back(job)
        return False

    async def _next_model(self) -> str | None:
        """Return the model that the next claim needs; `None` if there is nothing to claim."""
        default, loaded = self._options.model, self._supervisor.loaded
        try:
            return await self._store.call(queue.next_model, default, loaded, self._loader.skipped)
        except NoModel as fault:
            if not self._options.watch:
                raise
            self._display.note(str(fault))
            return None

    async def _put_back(self, job: ClaimedJob) -> None:
        """Queue a claimed job again, or cancel it if that was requested."""
        await self._recorder.written()
        if self._recorder.has_failed(job):
            return
        if await self._store.call(queue.release, job.id) is Status.CANCELLED:
            await self._recorder.report_end(job, JobEnd(Status.CANCELLED))
        else:
            self._taken -= 1

    async def _claim(self, only: int | None = None) -> ClaimedRun | None:
        """Claim the next job of the model in memory, if one more is wanted.

        `only` leaves a job alone that runs in another number of slots; `None` takes any.
        """
        info, skipped = self._supervisor.info, self._loader.skipped
        if info is None or self.spent:
            return None
        parallel = self._loader.parallel(info)
        try:
            job = await self._store.call(
                queue.claim,
                self._run_id,
                info,
                self._options.model,
                skipped,
                parallel=parallel,
                only=only,
                mix=self._options.mix,
            )
        except ModelChanged as fault:
            changed = {(fault.batch_id, info.name)} if fault.batch_id is not None else set()
            self._loader.skip(fault, in_batches=skipped.in_batches | changed)
            return None
        if job is None:
            return None
        self._taken += 1
        self._idle = False
        self._explain(job, parallel)
        return ClaimedRun(job, await self._resume(job))

    def _explain(self, job: ClaimedJob, parallel: int) -> None:
        """Say once of a batch that it keeps its number of slots, or that `mix` replaced it."""
        own = job.parallel if job.mixed_from is None else job.mixed_from
        if own == parallel or job.batch_id in self._explained:
            return
        self._explained.add(job.batch_id)
        began = f"batch {job.batch_id} began with {format_count(own, 'conversation')} at once"
        if job.mixed_from is None:
            why = "because its answers depend on that (`work --mix` changes it)"
            self._display.note(f"{began} and goes on so, {why}")
        else:
            self._display.note(f"{began}; goes on with {job.parallel}, as --mix asks")

    async def _resume(self, job: ClaimedJob) -> JobRun | JobError:
        """Return the run of a job at its last checkpoint, or why it cannot be played."""
        if job.fault is not None:
            return job.fault
        try:
            with at_stage("resume"):
                history = await self._store.call(queue.read_history, job.id)
                return JobRun.resume(job, history)
        except JobError as error:
            return error

    async def _claim_ahead(self) -> ClaimedRun | None:
        """Claim the job after the running one and have its prompt rendered."""
        claimed = await self._claim()
        if claimed is not None and (first := claimed.first_request()) is not None:
            await self._supervisor.prepare(with_rendered(first.request, self._options))
        return claimed


def with_rendered(request: GenerationRequest, options: DrainOptions) -> GenerationRequest:
    """Return the request; it asks for the rendered prompt if artifacts are written."""
    return msgspec.structs.replace(request, render=options.artifacts != "off")
