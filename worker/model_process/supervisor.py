"""The model a drain works with: started when needed, swapped, brought back after a death."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import anyio

from mh_batch.jobs.errors import ModelChanged, ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.options import HANG_SECONDS

from .client import COMMAND, Death, ModelClient, ProcessDied, start_model

T = TypeVar("T")


class LoadDied(ModelNotLoaded):
    """The model process died while it loaded a model; `death` says how."""

    def __init__(self, model: str, death: Death) -> None:
        self.death = death
        what = "loading it" if death.phase != "template" else "trying its chat template"
        super().__init__(f"{model}: the model process died while {what}: {death}")

    @property
    def passing(self) -> bool:
        """Whether it may go better the next time: a template is the same then."""
        return self.death.phase != "template"


class ModelSupervisor:
    """Keeps at most one model process and at most one model in it; ends it on the way out."""

    def __init__(
        self,
        log_path: Path,
        options: EngineOptions,
        hang_seconds: float = HANG_SECONDS,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """Take where the model process writes, and how long it may give no sign of life."""
        self._log_path = log_path
        self._hang_seconds = hang_seconds
        self._options = options
        self._command = command
        self._stack = AsyncExitStack()
        self._client: ModelClient | None = None
        self._info: ModelInfo | None = None
        self._fingerprints: dict[str, str] = {}

    @property
    def info(self) -> ModelInfo | None:
        """What is in memory, or `None`."""
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._forget()

    async def ensure(self, model: str) -> ModelInfo:
        """Have `model` in memory and say what it is.

        Raises `ModelNotLoaded`, or `ModelChanged` if it is loaded again and is another one.
        """
        if self._info is not None and self._info.name == model:
            return self._info
        self._info = None
        try:
            if self._client is None:
                self._client = await self._stack.enter_async_context(
                    start_model(
                        self._log_path,
                        self._command,
                        self._hang_seconds,
                        self._options.preload_blas,
                    )
                )
            info = await self._or_kill(self._client.load(model, self._options))
        except ProcessDied as error:
            await self._forget()
            raise LoadDied(model, error.death) from None
        if self._fingerprints.setdefault(model, info.fingerprint) != info.fingerprint:
            raise ModelChanged(
                f"{model}: its weights changed while the worker was running; bring the old ones "
                "back, or start `mh-batch work` again for batches that have not begun"
            )
        self._info = info
        return info

    async def prepare(self, request: GenerationRequest) -> None:
        """Hint that this comes next; does nothing without a model."""
        if self._client is not None:
            await self._client.prepare(request)

    async def settle(self) -> None:
        """Tell the model process that a job is over."""
        if self._client is not None:
            await self._client.settle()

    async def cancel(self) -> None:
        """Have the running attempt end within a token; its answer still comes."""
        if self._client is not None:
            await self._client.cancel()

    async def recycle(self) -> None:
        """End the model process; the next `ensure` starts a new one."""
        await self._forget()

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt on the model in memory.

        After `ProcessDied` there is no model; the next `ensure` starts afresh. A cancellation
        kills the process, so that "stop now" does not wait for an answer nobody wants.
        """
        assert self._client is not None, "ensure() comes first"
        try:
            return await self._or_kill(self._client.generate(request, on_progress))
        except ProcessDied:
            await self._forget()
            raise

    async def _or_kill(self, answer: Awaitable[T]) -> T:
        """Wait for an answer; if nobody wants it any more, the process need not finish it."""
        try:
            return await answer
        except anyio.get_cancelled_exc_class():
            if self._client is not None:
                self._client.kill()
            raise

    async def _forget(self) -> None:
        with anyio.CancelScope(shield=True):
            self._client = self._info = None
            await self._stack.aclose()
