"""Tests the model with a built-in conversation after jobs failed in a row."""

import tempfile
from pathlib import Path

import anyio
from msgspec.structs import replace

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import JobError, ModelProcessDied
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.worker.controller.conversation import ConversationRun, Generate, Record
from mh_batch.worker.draining import artifacts
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.draining.recorder import Recorder
from mh_batch.worker.model_process.death import ProcessDied, WatchdogDeaths
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import Stop
from mh_batch.worker.text.format import format_count

from .loader import ModelLoader

JOB = ClaimedJob(
    id=0,
    batch_id=0,
    position=0,
    custom_id="probe",
    model="",
    request=Request((Message("user", "What is 2 + 3?"),)),
    settings=apply(Settings(), {"max_tokens": 32, "max_attempts": 1, "temperature": 0}),
    seed=0,
    date="2026-01-01",
)
NOT_ASKED = "not asked"


class Probe:
    """Tests the model, and all that handles its answers, after jobs failed in a row.

    The conversation passes all stages of a job and leaves nothing behind.
    """

    def __init__(
        self, context: DrainContext, recorder: Recorder, loader: ModelLoader, stop: Stop
    ) -> None:
        """Share the drain's recorder, model loader and stop."""
        self._options, self._run_id, self._store, self._supervisor, self._display = context
        self._recorder = recorder
        self._loader = loader
        self._stop = stop

    async def test_model(self) -> None:
        """Return if the model answers: then the jobs are at fault, and the drain goes on.

        If it does not, the jobs are queued again, and `ModelProcessDied` is raised: one by one the
        whole queue would fail. They are queued again as well after a request to stop, and if the
        model does not load; its jobs are skipped then.
        """
        await self._recorder.written()
        failed = self._recorder.failed_in_a_row
        jobs = f"{format_count(len(failed.jobs), 'job')} in a row"
        self._display.note(f"{jobs} failed at the model: sending it a test prompt")
        fault: str | None = NOT_ASKED
        try:
            fault = await self._ask(failed.model)
        finally:
            if fault is not None:
                await self.put_back_failed()
        if fault is None:
            self._display.note("the model answered, so the jobs are at fault: going on")
            failed.clear()
        elif fault != NOT_ASKED and not self._stop.soon:
            raise ModelProcessDied(
                f"the model failed on {jobs}, and on a test prompt after them: {fault}; "
                f"the jobs are back in the queue; see {self._options.log_path}, free memory or "
                "try another model, then run `mh-batch work` again"
            )

    async def put_back_failed(self) -> None:
        """Queue the jobs again that failed in a row: they may not be at fault.

        A job that was retried meanwhile stays as it is.
        """
        failed = self._recorder.failed_in_a_row
        with anyio.CancelScope(shield=True):
            queued = await self._store.call(queue.requeue, failed.jobs)
            self._recorder.tally.count(Status.FAILED, -queued)
        failed.clear()

    async def _ask(self, model: str) -> str | None:
        """Return what failed; `None` if nothing did, `NOT_ASKED` if no answer was waited for."""
        watchdog = WatchdogDeaths()
        while await self._loader.have(model):
            died: ProcessDied | None = None
            with self._stop.interruptible():
                try:
                    return await self._fault(model)
                except ProcessDied as error:
                    died = error
            if died is None:
                break  # interrupted
            if not watchdog.excuses(died.death):
                return str(died)
            await self._loader.wait_for_display(f"on a test prompt, {died}")
        return NOT_ASKED

    async def _fault(self, model: str) -> str | None:
        """Play the conversation; return what went wrong, `None` if nothing did.

        Any answer will do. Raises `ProcessDied` if the model process dies, and `EnvironmentFault`
        for what concerns neither the model nor the jobs, such as a full disk.
        """
        try:
            with at_stage("generate"):
                await self._play(replace(JOB, model=model))
        except JobError as error:
            return str(error)
        return None

    async def _play(self, job: ClaimedJob) -> None:
        run = ConversationRun(job)
        asked = run.next()
        assert isinstance(asked, Generate)
        run.feed(await self._supervisor.generate(asked.request, lambda _: None))
        made = run.next()
        assert isinstance(made, Record)
        files = artifacts.files(made.attempt, None, job.settings.control.max_attempts)
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self._options.logs) as folder:
            # as deep as a job's files: the folders above may be links
            artifacts.write(Path(folder) / "0" / "0", files)
        await self._store.call(queue.rehearse, self._run_id, made.attempt, made.turn)
