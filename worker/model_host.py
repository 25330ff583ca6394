"""The model a drain works with: started when needed, swapped, brought back after a death."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo

from .model_client import COMMAND, ModelClient, ProcessDied, model_process


class ModelHost:
    """Keeps at most one model process and at most one model in it; ends it on the way out."""

    def __init__(self, log_path: Path, command: tuple[str, ...] = COMMAND) -> None:
        self._log_path = log_path
        self._command = command
        self._stack = AsyncExitStack()
        self._client: ModelClient | None = None
        self._info: ModelInfo | None = None

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
        """Have `model` in memory and say what it is; raises `ModelNotLoaded`."""
        if self._info is not None and self._info.name == model:
            return self._info
        self._info = None
        try:
            if self._client is None:
                self._client = await self._stack.enter_async_context(
                    model_process(self._log_path, self._command)
                )
            self._info = await self._client.load(model)
        except ProcessDied as error:
            await self._forget()
            raise ModelNotLoaded(
                f"{model}: the model process died while loading it: {error.death}"
            ) from None
        return self._info

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt on the model in memory.

        After `ProcessDied` there is no model; the next `ensure` starts afresh. A cancellation
        kills the process, so that "stop now" does not wait for an answer nobody wants.
        """
        assert self._client is not None, "ensure() comes first"
        try:
            return await self._client.generate(request, on_progress)
        except ProcessDied:
            await self._forget()
            raise
        except anyio.get_cancelled_exc_class():
            self._client.kill()
            raise

    async def _forget(self) -> None:
        with anyio.CancelScope(shield=True):
            self._client = self._info = None
            await self._stack.aclose()
