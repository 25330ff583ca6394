"""The model that a drain uses: started when needed, swapped, restarted after a death."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar

import anyio

from mh_batch.jobs.errors import ModelChanged, ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.worker.options import WorkerSettings

from .client import COMMAND, DEFAULT_SETTINGS, ModelClient, start_model
from .death import Death, ProcessDied

T = TypeVar("T")


class LoadDied(ModelNotLoaded):
    """The model process died while it loaded a model; `death` says how."""

    def __init__(self, model: str, death: Death) -> None:
        self.death = death
        what = "loading it" if death.phase != "template" else "trying its chat template"
        super().__init__(f"{model}: the model process died while {what}: {death}")

    @property
    def may_pass(self) -> bool:
        """Whether the next try may succeed; with the same chat template it will not."""
        return self.death.phase != "template"


class ModelSupervisor:
    """Keeps at most one model process with at most one model; ends it on exit."""

    def __init__(
        self,
        log_path: Path,
        settings: WorkerSettings = DEFAULT_SETTINGS,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """`log_path` receives the output of the model process, `command` starts it."""
        self._log_path = log_path
        self._settings = settings
        self._command = command
        self._stack = AsyncExitStack()
        self._client: ModelClient | None = None
        self._info: ModelInfo | None = None
        self._fingerprints: dict[str, str] = {}

    @property
    def info(self) -> ModelInfo | None:
        """The model in memory, or `None`."""
        return self._info

    @property
    def loaded(self) -> str | None:
        """The name of the model in memory, or `None`."""
        return self._info.name if self._info else None

    @property
    def pid(self) -> int | None:
        """The process id of the model process, or `None` if there is none."""
        return self._client.pid if self._client else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reset()

    async def load(self, model: str) -> ModelInfo:
        """Load `model` if it is not in memory; return what it is.

        Raises `ModelNotLoaded`, or `ModelChanged` if it is loaded again with other weights.
        """
        if self._info is not None and self._info.name == model:
            return self._info
        self._info = None
        try:
            if self._client is None:
                self._client = await self._stack.enter_async_context(
                    start_model(self._log_path, self._settings, self._command)
                )
            info = await self._or_kill(self._client.load(model))
        except ProcessDied as error:
            await self.reset()
            raise LoadDied(model, error.death) from None
        if self._fingerprints.setdefault(model, info.fingerprint) != info.fingerprint:
            raise ModelChanged(
                f"{model}: its weights changed while the worker was running; restore the old "
                "ones, or start `mh-batch work` again for batches that have not begun"
            )
        self._info = info
        return info

    async def prepare(self, request: GenerationRequest) -> None:
        """Say which request comes next; does nothing without a model."""
        if self._client is not None:
            await self._client.prepare(request)

    async def job_done(self) -> None:
        """Say that a job is over."""
        if self._client is not None:
            await self._client.job_done()

    async def cancel(self) -> None:
        """End the running attempt within a token; it is still answered."""
        if self._client is not None:
            await self._client.cancel()

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt on the model in memory.

        After `ProcessDied` there is no model, and the next `load` starts a new process. Being
        cancelled kills the process, so that "stop now" does not wait for the answer.
        """
        assert self._client is not None, "load() comes first"
        try:
            return await self._or_kill(self._client.generate(request, on_progress))
        except ProcessDied:
            await self.reset()
            raise

    async def reset(self) -> None:
        """End the model process; the next `load` starts a new one."""
        with anyio.CancelScope(shield=True):
            self._client = self._info = None
            await self._stack.aclose()

    async def _or_kill(self, answer: Awaitable[T]) -> T:
        """Await an answer; kill the process if this is cancelled."""
        try:
            return await answer
        except anyio.get_cancelled_exc_class():
            if self._client is not None:
                self._client.kill()
            raise
