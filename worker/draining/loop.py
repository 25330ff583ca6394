"""The drain loop: moves messages between the queue, the conversations and the model.

It decides nothing about answers (the controller does) and knows no SQL (the store does).
"""

import time

import anyio
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store.clock import now
from mh_batch.worker.acceptance.checker import Checker
from mh_batch.worker.controller.conversation import Finish, Generate, Record
from mh_batch.worker.model_process.death import ProcessDied
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import EndReason, Stop

from .context import DrainContext
from .in_flight.active_jobs import ActiveJobs
from .in_flight.answers import Answers
from .in_flight.open_attempts import ActiveJob, OpenAttempt, OpenAttempts
from .in_flight.pending_checks import Judged, PendingChecks
from .in_flight.stop_wait import StopWait, wait_for
from .model.after_death import Deaths
from .model.loader import ModelLoader
from .model.probe import Probe
from .model.process_size import ProcessSize
from .recorder import Recorder
from .reporter import OnIdle, Tally, nothing_to_do
from .scheduler import Scheduler, with_rendered


class Drain:
    """Plays jobs from the queue until it is empty or a stop is requested.

    As many attempts are with the model as there are slots, and a few more whose prompts are read
    ahead. The model never waits for the disk: while it generates, the next job is claimed, its
    prompt is rendered, and the last attempt is written. At most one write is under way, and a job
    is reported as done only once it is on disk. A good answer that is to be checked is judged once
    the check has ended; the model goes on with other jobs meanwhile.
    """

    def __init__(
        self, context: DrainContext, checker: Checker, on_idle: OnIdle = nothing_to_do
    ) -> None:
        self.stop = Stop()
        self._options, self._supervisor = context.options, context.supervisor
        self._recorder = Recorder(context)
        self._loader = ModelLoader(context, self.stop)
        parts = (self._recorder, self._loader, self.stop)
        self._scheduler = Scheduler(context, *parts, on_idle)
        self._probe = Probe(context, *parts)
        self._deaths = Deaths(context, self._loader)
        self._process_size = ProcessSize(context)
        self._open = OpenAttempts(context)
        others = (self._recorder, self._scheduler, self._deaths, self._open)
        self._active = ActiveJobs(context, *others)
        self._checks = PendingChecks(checker, self.stop.wakeup)
        self._answers = Answers(
            self._recorder, self._deaths, self._process_size, self._active, self._checks
        )
        self._emptying = False

    @property
    def tally(self) -> Tally:
        """The totals so far."""
        return self._recorder.tally

    async def run(self, tasks: TaskGroup) -> EndReason:
        """Drain the queue; `tasks` runs the work beside the model.

        Raises `EnvironmentFault` if it cannot go on; for a model that does not load, or has other
        weights than a batch began with, only once all other jobs are over. After an error or a
        stop, claimed jobs that are not finished are still `running`: the caller requeues them.
        """
        try:
            while True:
                await self._fill(tasks)
                if self._open or self._checks:
                    await self._take_answer(tasks)
                elif (reason := await self._go_on(tasks)) is not None:
                    return reason
        except anyio.get_cancelled_exc_class():
            await self._supervisor.kill()
            raise

    async def database_changed(self) -> None:
        """React to another process that wrote: new work, or a request to cancel."""
        await self._active.cancel_requested()
        self.wake()

    def stop_wait(self) -> StopWait:
        """Return what is waited for after the first request to stop."""
        return wait_for(self._open.decoding(), len(self._checks))

    def wake(self) -> None:
        """Let a drain that waits look at the queue and at the model."""
        self.stop.wakeup.set()

    async def _fill(self, tasks: TaskGroup) -> None:
        """Begin attempts until the model has enough of them, or none can begin now."""
        if self.stop.soon:
            await self._open.take_back_unbegun()
        while self._has_room() and (
            await self._begin_one(tasks) or await self._claim_beside(tasks)
        ):
            pass

    def _has_room(self) -> bool:
        """Whether one more attempt may go to the model."""
        if not self._open:
            self._emptying = False
            ready = self._active and not self._recorder.failed_in_a_row
            return bool(ready) and not self._checks.full
        if self._checks.full:
            return False
        if self._emptying or self._recorder.failed_in_a_row or self._process_size.too_large:
            return False
        return not self._open.has_suspect and self._open.has_room(self._deaths.most)

    async def _claim_beside(self, tasks: TaskGroup) -> bool:
        """Claim a job that runs beside those that are played; return whether there is one.

        With one slot, that is while all answers are with their checks.
        """
        if not (self._open or self._checks) or self._emptying or self.stop.soon:
            return False
        parallel = self._open.parallel if self._open else self._checks.parallel
        if parallel == 1 and (self._open or self._process_size.too_large):
            return False
        claimed = await self._scheduler.beside(parallel)
        if claimed is not None:
            await self._active.take(claimed)
            if parallel == 1:
                self._scheduler.claim_ahead(tasks)
        return claimed is not None

    async def _go_on(self, tasks: TaskGroup) -> EndReason | None:
        """Find more to do when nothing is with the model; return why to end, `None` to go on."""
        if self.stop.soon:
            await self._recorder.written()
            if self._recorder.failed_in_a_row:
                await self._probe.put_back_failed()
            return self.stop.reason
        if self._recorder.failed_in_a_row:
            await self._probe.test_model()
            await self._active.reload()
            return None
        await self._process_size.replace()
        claimed = await self._scheduler.next()
        if claimed is not None:
            await self._active.take(claimed)
            if claimed.job.parallel == 1:
                self._scheduler.claim_ahead(tasks)
            return None
        await self._recorder.written()
        if self._recorder.failed_in_a_row:
            return None
        if self._scheduler.spent and not self.stop.soon:
            return EndReason.MAX_JOBS
        if not self.stop.soon and not await self._scheduler.new_work():
            return EndReason.EMPTY
        return None

    async def _begin_one(self, tasks: TaskGroup) -> bool:
        """Begin the next attempt of the first job that has one; return whether there was one."""
        for active in self._active.in_order():
            try:
                if not active.over and await self._advance(active, tasks):
                    return True
            except JobError as error:
                await self._active.fail(active, error)
            if self._emptying:
                break
        return False

    async def _advance(self, active: ActiveJob, tasks: TaskGroup) -> bool:
        """Do what a job's run says until an attempt is with the model; return whether one is.

        Raises `JobError` if the job cannot go on.
        """
        job, run = active.job, active.run
        if not self._recorder.has_failed(job):
            with at_stage("next"):
                action = run.next(begin=not self.stop.soon)
            match action:
                case None:
                    return False
                case Generate():
                    return await self._begin(active, action, tasks)
                case Finish(end):
                    await self._recorder.finish(tasks, job, end)
                case Record():
                    raise AssertionError("a record is written with the answer it is about")
        await self._active.drop(active)
        return False

    async def _begin(self, active: ActiveJob, action: Generate, tasks: TaskGroup) -> bool:
        """Send an attempt to the model; return whether it is there.

        A suspect waits until nothing else is with the model.
        """
        job, key = active.job, action.key
        if await self._active.asked_to_cancel(job.id):
            await self._recorder.finish(tasks, job, JobEnd(Status.CANCELLED))
            await self._active.drop(active)
            return False
        suspect = await self._deaths.is_suspect(job, key)
        if suspect and self._open:
            active.run.withdraw(key.choice)
            self._emptying = True
            return False
        if not self._open and job.parallel > 1 and await self._process_size.replace():
            # with several at once, there may never be a moment between two jobs
            await self._active.reload()
            if active.over:
                return False
        guidance, began = action.request.prompt.guidance, (now(), time.perf_counter())
        attempt = OpenAttempt(active, key, suspect, guidance, *began)
        try:
            begun = await self._open.begin(attempt, with_rendered(action.request, self._options))
        except ProcessDied as error:
            await self._active.died(error)
            # not with the model any more, and to be looked at again
            return True
        if not begun:
            active.run.withdraw(key.choice)
            self._emptying = True
        else:
            # somebody may have asked to cancel it while it was on its way
            await self._active.cancel_if_asked(job.id)
        return begun

    async def _take_answer(self, tasks: TaskGroup) -> None:
        """Wait for the next answer, of the model or of a check, and go on with its job.

        Returns without one if there is something else to look at.
        """
        checked = await self._checks.take()
        if checked is not None:
            await self._answers.conclude(tasks, checked)
            return
        if not self._open:
            await self.stop.wakeup.wait()
            return
        try:
            answered = await self._open.next(tasks, self.stop.wakeup)
        except ProcessDied as error:
            await self._active.died(error)
            return
        if answered is not None:
            await self._answers.take(tasks, Judged(*answered, now()))
