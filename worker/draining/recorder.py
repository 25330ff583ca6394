"""What attempts brought, written behind the model's back: at most one write is under way."""

import time
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import InternalError, JobError, ModelCrashed, UnknownTarget
from mh_batch.jobs.record import Attempt, AttemptKey, ClaimedJob, Crash, JobEnd
from mh_batch.jobs.status import IllegalMove, Status
from mh_batch.store import queue
from mh_batch.worker.controller.conversation import Record
from mh_batch.worker.draining.reporter import Display, FailedInARow, Tally
from mh_batch.worker.model_process.client import Death
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage, format_error, log_fault
from mh_batch.worker.runtime.store_thread import StoreThread

from . import artifacts

COUNT_SECONDS = 5.0


class Recorder:
    """Puts attempts and ends of jobs on disk while the model works, and tells of them after.

    A job whose attempt cannot be written because of what it holds is failed, and nothing more of
    it is taken.
    """

    def __init__(
        self, task: DrainOptions, run_id: int, store: StoreThread, display: Display
    ) -> None:
        self.tally = Tally()
        self.failed_in_a_row = FailedInARow()
        self._log_path = task.logs / "worker.log"
        self._failed: set[int] = set()
        self._task = task
        self._run_id = run_id
        self._store = store
        self._display = display
        self._write: Background[None] | None = None
        self._waiting = 0
        self._count_again = 0.0

    def begin(self, job: ClaimedJob) -> None:
        """Take that a job is played from here on, whatever became of it before."""
        self._failed.discard(job.id)

    def has_failed(self, job: ClaimedJob) -> bool:
        """Whether the job was failed because of what could not be written of it."""
        return job.id in self._failed

    async def record(
        self, tasks: TaskGroup, job: ClaimedJob, record: Record, guidance: str | None
    ) -> None:
        """Begin to write an attempt, once what was written before is on disk."""
        await self.written()
        if not self.has_failed(job):
            self._write = Background(tasks, partial(self._record, job, record, guidance))

    async def finish(self, tasks: TaskGroup, job: ClaimedJob, end: JobEnd) -> None:
        """Begin to write the end of a job, once what was written before is on disk."""
        await self.written()
        if not self.has_failed(job):
            self._write = Background(tasks, partial(self._finish, job, end))

    async def fail(self, job: ClaimedJob, error: JobError) -> None:
        """End a job because of `error`, once what was written before is on disk."""
        await self.written()
        if not self.has_failed(job):
            await self._fail(job, error)

    async def written(self) -> None:
        """Wait until the last write is on disk; raises what kept it from getting there."""
        if self._write is not None:
            await self._write.result()
            self._write = None

    async def record_crash(
        self, job: ClaimedJob, key: AttemptKey, death: Death, *, forgiven: bool = False
    ) -> None:
        """Write down a death of the model process at once; one `forgiven` does not count."""
        told = (death.phase, death.signal, death.exit_code, death.stderr_tail)
        crash = Crash(key, *told, forgiven)
        await self._store.call(queue.record_crash, job.id, self._run_id, crash)

    async def report_end(self, job: ClaimedJob, end: JobEnd) -> None:
        """Count a job whose end is on disk, and show it."""
        self.tally.count(end.status)
        if end.status is Status.DONE:
            self.tally.rescued += await self._store.call(queue.is_rescued, job.id)
        self.tally.batches.add(job.batch_id)
        waiting = await self._count_waiting()
        try:
            with at_stage("record"):
                self._display.job_ended(job, end, self.tally, waiting)
        except InternalError as error:
            # the job is over, however badly it shows
            log_fault(self._log_path, job, error)

    async def _record(self, job: ClaimedJob, record: Record, guidance: str | None) -> None:
        """Write an attempt; its files first, so that what is committed has them.

        Files without an attempt, after a death in between, are overwritten by that same attempt.
        """
        attempt, turn, end = record.attempt, record.turn, record.end
        # also when told to stop now: the attempt is whole, and generating it cost far more
        with anyio.CancelScope(shield=True):
            try:
                with at_stage("artifacts"):
                    await self._write_artifacts(job, attempt, guidance)
                with at_stage("record"):
                    await self._store.call(queue.record, job.id, self._run_id, attempt, turn, end)
            except InternalError as error:
                await self._fail(job, error)
                return
        self.failed_in_a_row.clear()
        self.tally.room.take(attempt, job.settings)
        self.tally.add(attempt.generation)
        if end is not None:
            await self.report_end(job, end)

    async def _write_artifacts(
        self, job: ClaimedJob, attempt: Attempt, guidance: str | None
    ) -> None:
        if artifacts.wanted(self._task.artifacts, attempt):
            files = artifacts.files(attempt, guidance, job.settings.control.max_attempts)
            folder = artifacts.folder(self._task.logs, job)
            await anyio.to_thread.run_sync(artifacts.write, folder, files)

    async def _finish(self, job: ClaimedJob, end: JobEnd) -> None:
        try:
            with at_stage("record"):
                await self._store.call(queue.finish, job.id, end)
        except InternalError as error:
            await self._fail(job, error)
        else:
            await self.report_end(job, end)

    async def _fail(self, job: ClaimedJob, error: JobError) -> None:
        """Put the end of a job on disk that `error` put an end to, and its traceback in the log."""
        self._failed.add(job.id)
        if isinstance(error, InternalError):
            log_fault(self._log_path, job, error)
        if _is_suspicious(error):
            self.failed_in_a_row.add(job)
        end = JobEnd(Status.FAILED, error.code, format_error(error))
        try:
            await self._store.call(queue.finish, job.id, end)
        except (IllegalMove, UnknownTarget):
            self._display.note(f"{job.custom_id}: ended by somebody else meanwhile")
        else:
            await self.report_end(job, end)

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


def _is_suspicious(error: JobError) -> bool:
    """Whether it may be the model that failed, and not the job."""
    if isinstance(error, InternalError):
        return not error.before_model
    return isinstance(error, ModelCrashed)
