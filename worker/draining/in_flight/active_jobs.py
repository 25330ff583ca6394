"""The jobs that are being played, until they are over or back in the queue."""

from mh_batch.jobs.errors import JobError
from mh_batch.store import queue
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.draining.model.after_death import Deaths
from mh_batch.worker.draining.recorder import Recorder
from mh_batch.worker.draining.scheduler import Scheduler
from mh_batch.worker.model_process.death import ProcessDied

from .claimed_run import ClaimedRun
from .open_attempts import ActiveJob, OpenAttempts


class ActiveJobs:
    """Takes claimed jobs, and lets go of those that are over, cancelled or back in the queue."""

    def __init__(
        self,
        context: DrainContext,
        recorder: Recorder,
        scheduler: Scheduler,
        deaths: Deaths,
        open_attempts: OpenAttempts,
    ) -> None:
        """Share the drain's parts; `open_attempts` are those of these jobs."""
        self._store = context.store
        self._supervisor = context.supervisor
        self._recorder = recorder
        self._scheduler = scheduler
        self._deaths = deaths
        self._open = open_attempts
        self._active: dict[int, ActiveJob] = {}
        self._cancelled: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._active)

    def in_order(self) -> list[ActiveJob]:
        """Return them in the order in which they may begin an attempt.

        Jobs with suspects go first: nothing runs beside others before all have passed.
        """
        return sorted(self._active.values(), key=lambda a: not self._deaths.suspects(a.job))

    async def take(self, claimed: ClaimedRun) -> None:
        """Play a claimed job from now on."""
        job, run = claimed
        self._recorder.begin(job)
        if isinstance(run, JobError):
            await self._recorder.fail(job, run)
            await self._supervisor.job_done()
        else:
            self._active[job.id] = ActiveJob(job, run)

    async def fail(self, active: ActiveJob, error: JobError) -> None:
        """Fail a job because of `error`."""
        await self._recorder.fail(active.job, error)
        await self.drop(active)

    async def drop(self, active: ActiveJob) -> None:
        """Forget a job that is over; what the model still does for it is of no use."""
        self._forget(active)
        await self._open.cancel({active.job.id})
        await self._supervisor.job_done()

    async def died(self, error: ProcessDied) -> None:
        """Record a death of the model process and load the model again for what it took along."""
        attempts = self._open.lost()
        for attempt in attempts.values():
            attempt.active.run.withdraw(attempt.key.choice)
        try:
            await self._deaths.blame(attempts, error)
        except JobError as fault:
            (attempt,) = attempts.values()
            await self.fail(attempt.active, fault)
        await self.reload()

    async def reload(self) -> None:
        """Have the model in memory again for these jobs, or put them back into the queue."""
        for active in list(self._active.values()):
            if not await self._scheduler.reload(ClaimedRun(active.job, active.run)):
                self._forget(active)

    async def cancel_requested(self) -> None:
        """Cancel what the model does for jobs that another process asked to cancel."""
        self._cancelled = await self._store.call(queue.cancel_requests)
        await self._open.cancel(self._cancelled)

    async def cancel_if_asked(self, job_id: int) -> None:
        """Cancel what the model does for a job, if that is known to be wanted."""
        await self._open.cancel(self._cancelled & {job_id})

    async def asked_to_cancel(self, job_id: int) -> bool:
        """Whether a job is to be cancelled.

        The store is asked again first: a known request may be answered and the job queued again.
        """
        if job_id in self._cancelled:
            self._cancelled = await self._store.call(queue.cancel_requests)
        return job_id in self._cancelled

    def _forget(self, active: ActiveJob) -> None:
        active.over = True
        self._active.pop(active.job.id, None)
        self._deaths.forget(active.job)
