"""Writes attempts and ends of jobs while the model works: at most one write is under way."""

import time
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import InternalError, JobError, ModelCrashed, UnknownTarget
from mh_batch.jobs.record import Attempt, ClaimedJob, JobEnd
from mh_batch.jobs.status import IllegalMove, Status
from mh_batch.store import queue
from mh_batch.worker.controller.conversation import Record
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage, format_error, log_fault

from . import artifacts
from .context import DrainContext
from .reporter import FailedInARow, Tally

COUNT_SECONDS = 5.0


class Recorder:
    """Puts attempts and ends of jobs on disk, and reports them afterwards.

    A job whose attempt cannot be written because of its content is failed; nothing more of it is
    accepted.
    """

    def __init__(self, context: DrainContext) -> None:
        self.tally = Tally()
        self.failed_in_a_row = FailedInARow()
        self._options, self._run_id, self._store, _, self._display = context
        self._failed: set[int] = set()
        self._write: Background[None] | None = None
        self._waiting = 0
        self._count_again = 0.0

    def begin(self, job: ClaimedJob) -> None:
        """Accept attempts of a job again, even if it failed before."""
        self._failed.discard(job.id)

    def has_failed(self, job: ClaimedJob) -> bool:
        """Whether the job was failed because something of it could not be written."""
        return job.id in self._failed

    async def record(
        self, tasks: TaskGroup, job: ClaimedJob, record: Record, guidance: str | None
    ) -> None:
        """Begin to write an attempt, after the write before is on disk."""
        await self.written()
        if not self.has_failed(job):
            self._write = Background(tasks, partial(self._record, job, record, guidance))

    async def finish(self, tasks: TaskGroup, job: ClaimedJob, end: JobEnd) -> None:
        """Begin to write the end of a job, after the write before is on disk."""
        await self.written()
        if not self.has_failed(job):
            self._write = Background(tasks, partial(self._finish, job, end))

    async def fail(self, job: ClaimedJob, error: JobError) -> None:
        """Fail a job because of `error`, after the write before is on disk."""
        await self.written()
        if not self.has_failed(job):
            await self._fail(job, error)

    async def written(self) -> None:
        """Wait until the last write is on disk; raises the error that prevented it."""
        if self._write is not None:
            await self._write.result()
            self._write = None

    async def report_end(self, job: ClaimedJob, end: JobEnd) -> None:
        """Count a job whose end is on disk, and display it."""
        self.tally.count(end.status)
        if end.status is Status.DONE:
            self.tally.rescued += await self._store.call(queue.is_rescued, job.id)
        self.tally.batches.add(job.batch_id)
        waiting = await self._count_waiting()
        try:
            with at_stage("record"):
                self._display.job_ended(job, end, self.tally, waiting)
        except InternalError as error:
            # the job is over, even if it cannot be displayed
            log_fault(self._options.log_path, job, error)

    async def _record(self, job: ClaimedJob, record: Record, guidance: str | None) -> None:
        """Write an attempt: its files first, so that a committed attempt has its files.

        Files without an attempt, after a death in between, are overwritten by the same attempt.
        """
        attempt, turn, end = record.attempt, record.turn, record.end
        # also after a request to stop now: the attempt is complete, and cost much more to generate
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
        self.tally.length_refusals.take(attempt, job.settings)
        self.tally.add(attempt.generation)
        if end is not None:
            await self.report_end(job, end)

    async def _write_artifacts(
        self, job: ClaimedJob, attempt: Attempt, guidance: str | None
    ) -> None:
        if artifacts.should_keep(self._options.artifacts, attempt):
            files = artifacts.files(attempt, guidance, job.settings.control.max_attempts)
            folder = artifacts.folder(self._options.logs, job)
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
        """Record that `error` failed the job, and write the traceback to the log."""
        self._failed.add(job.id)
        if isinstance(error, InternalError):
            log_fault(self._options.log_path, job, error)
        if _is_suspicious(error):
            self.failed_in_a_row.add(job)
        end = JobEnd(Status.FAILED, error.code, format_error(error))
        try:
            await self._store.call(queue.finish, job.id, end)
        except (IllegalMove, UnknownTarget):
            self._display.note(f"{job.custom_id}: was ended by another process")
        else:
            await self.report_end(job, end)

    async def _count_waiting(self) -> int:
        """Return how many jobs are not finished: queued, claimed ahead or running.

        They are counted anew only every few seconds: that walks the index of a queue that may hold
        a million jobs, and others may have submitted meanwhile.
        """
        self._waiting = max(0, self._waiting - 1)
        if not self._waiting or time.monotonic() >= self._count_again:
            counts = await self._store.call(queue.queue_counts)
            self._waiting = counts[Status.QUEUED] + counts[Status.RUNNING]
            self._count_again = time.monotonic() + COUNT_SECONDS
        return self._waiting


def _is_suspicious(error: JobError) -> bool:
    """Whether the model may be at fault, not the job."""
    if isinstance(error, InternalError):
        return not error.before_model
    return isinstance(error, ModelCrashed)
