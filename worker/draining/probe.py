"""A built-in conversation: what fails with it as well is the fault of no job."""

import tempfile
from pathlib import Path

from msgspec.structs import replace

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import JobError, ModelChanged, ModelNotLoaded, ModelProcessDied
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store import queue
from mh_batch.worker.controller.conversation import ConversationRun, Generate, Record
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.store_thread import StoreThread

from . import artifacts

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


class Probe:
    """Takes the built-in conversation through all stages of a job, and leaves nothing behind."""

    def __init__(
        self, host: ModelSupervisor, store: StoreThread, task: DrainOptions, run_id: int
    ) -> None:
        self._host = host
        self._store = store
        self._task = task
        self._run_id = run_id

    async def fault(self, model: str) -> str | None:
        """Return what went wrong; `None` if `model` answered and all behind it worked.

        Whether the answer is any good does not matter. Raises `EnvironmentFault` for what is
        about neither, such as a full disk.
        """
        try:
            with at_stage("generate"):
                await self._play(replace(JOB, model=model))
        except (JobError, ModelNotLoaded, ModelChanged, ModelProcessDied) as error:
            return str(error)
        return None

    async def _play(self, job: ClaimedJob) -> None:
        run = ConversationRun(job)
        asked = run.next()
        assert isinstance(asked, Generate)
        await self._host.ensure(job.model)
        run.feed(await self._host.generate(asked.request, lambda _: None))
        made = run.next()
        assert isinstance(made, Record)
        files = artifacts.files(made.attempt, None, job.settings.control.max_attempts)
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self._task.logs) as folder:
            # as deep as the files of a job lie: what is above may be a link
            artifacts.write(Path(folder) / "0" / "0", files)
        await self._store.call(queue.rehearse, self._run_id, made.attempt, made.turn)
