"""What becomes of an answer: it is looked at and checked, then judged and written."""

import anyio.to_thread
from anyio.abc import TaskGroup

from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Generation, StopReason
from mh_batch.worker.controller.form_check import check_generation
from mh_batch.worker.draining.model.after_death import Deaths
from mh_batch.worker.draining.model.process_size import ProcessSize
from mh_batch.worker.draining.recorder import Recorder
from mh_batch.worker.runtime.job_faults import at_stage

from .active_jobs import ActiveJobs
from .pending_checks import Judged, PendingChecks


class Answers:
    """Hands answers to the runs of their jobs, and what the runs make of them to the recorder."""

    def __init__(
        self,
        recorder: Recorder,
        deaths: Deaths,
        process_size: ProcessSize,
        active: ActiveJobs,
        checks: PendingChecks,
    ) -> None:
        """Share the drain's parts."""
        self._recorder = recorder
        self._deaths = deaths
        self._process_size = process_size
        self._active = active
        self._checks = checks

    async def take(self, tasks: TaskGroup, judged: Judged) -> None:
        """Take an answer of the model: check it, or go on with its job at once."""
        attempt = judged.attempt
        try:
            if self._arrived(judged):
                judged = await _with_form(judged)
                if not attempt.active.over and self._checks.begin(tasks, judged):
                    return
        except JobError as error:
            judged = judged._replace(outcome=error)
        await self.conclude(tasks, judged)

    async def conclude(self, tasks: TaskGroup, judged: Judged) -> None:
        """Feed the run of a job with an answer, and write what it says."""
        attempt, outcome = judged.attempt, judged.outcome
        try:
            if not isinstance(outcome, Generation):
                raise outcome
            self._feed(judged, outcome)
            # at once, also if nothing more may begin now
            record = attempt.active.run.take_record()
            unwanted = attempt.active.over or self._recorder.has_failed(attempt.job)
            if record is not None and not unwanted:
                await self._recorder.record(tasks, attempt.job, record, attempt.guidance)
                if record.end is not None:
                    await self._active.drop(attempt.active)
        except JobError as error:
            if not attempt.active.over:
                await self._active.fail(attempt.active, error)

    def _arrived(self, judged: Judged) -> bool:
        """Note that the model has answered; return whether it has, and was not cancelled."""
        attempt, outcome = judged.attempt, judged.outcome
        # a cancelled generation tells nothing
        if isinstance(outcome, Generation):
            if outcome.stop_reason is StopReason.CANCELLED:
                return False
            self._process_size.take(outcome)
        self._deaths.answered(attempt)
        return True

    def _feed(self, judged: Judged, generation: Generation) -> None:
        """Hand a generation to the run of its job; raises `JobError` if that fails."""
        attempt = judged.attempt
        run, choice = attempt.active.run, attempt.key.choice
        # a cancelled generation is not an attempt
        if generation.stop_reason is StopReason.CANCELLED:
            run.withdraw(choice)
            return
        times = attempt.started_at, judged.finished_at
        with at_stage("decision"):
            run.feed(choice, generation, *times, rejected=judged.rejected)


async def _with_form(judged: Judged) -> Judged:
    """Return an answer with what is wrong with its form among its problems.

    Raises `JobError` if that cannot be found out. A long answer takes seconds: it is looked at in a
    thread, so that the worker shows that it is alive meanwhile.
    """
    outcome, form = judged.outcome, judged.attempt.job.settings.output.form
    if form is None or not isinstance(outcome, Generation):
        return judged
    with at_stage("decision"):
        checked = await anyio.to_thread.run_sync(
            check_generation, outcome, form, abandon_on_cancel=True
        )
    return judged._replace(outcome=checked)
