"""The model that a drain uses: started when needed, swapped, restarted after a death."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar

import anyio
import msgspec

from mh_batch.jobs.errors import ModelChanged, ModelNotLoaded
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.worker.options import WorkerSettings

from .client import COMMAND, DEFAULT_SETTINGS, Answer, ModelClient, start_model
from .death import Death, ProcessDied
from .protocol import Phase

T = TypeVar("T")


class LoadDied(ModelNotLoaded):
    """The model process died while it loaded or tested a model; `death` says how."""

    def __init__(self, model: str, death: Death, doing: str | None = None) -> None:
        """`doing` is what it did instead of loading, `None` if it loaded."""
        self.death = death
        loading = "loading it" if death.phase != "template" else "trying its chat template"
        super().__init__(f"{model}: the model process died while {doing or loading}: {death}")

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

    @property
    def running(self) -> bool:
        """Whether there is a model process, as far as is known."""
        return self._client is not None

    @property
    def phases(self) -> Mapping[int, Phase]:
        """The phase of every open attempt, by the id of its request."""
        return self._client.phases if self._client else {}

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

    async def selftest(self, parallel: int) -> SelftestVerdict:
        """Check so many slots on the model in memory, in a minute.

        Raises what `ModelClient.selftest` does, and `LoadDied` if the process died; being cancelled
        kills it.
        """
        model = self.loaded or ""
        try:
            testing = self._model.selftest(parallel, thorough=False)
            return (await self._or_reset(self._or_kill(testing))).verdict
        except ProcessDied as error:
            # the phase of a load: no attempt is to blame
            death = msgspec.structs.replace(error.death, phase="load")
            doing = "testing slots (--parallel 1 needs no such test)"
            raise LoadDied(model, death, doing) from None

    async def prepare(self, request: GenerationRequest) -> None:
        """Say which request comes next; does nothing without a model."""
        if self._client is not None:
            await self._client.prepare(request)

    async def job_done(self) -> None:
        """Say that a job is over."""
        if self._client is not None:
            await self._client.job_done()

    async def cancel(self, request_id: int) -> None:
        """End an open attempt within a token; it is still answered."""
        if self._client is not None:
            await self._client.cancel(request_id)

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt on the model in memory.

        After `ProcessDied` there is no model, and the next `load` starts a new process. Being
        cancelled kills the process, so that "stop now" does not wait for the answer.
        """
        return await self._or_reset(self._or_kill(self._model.generate(request, on_progress)))

    async def begin(self, request: GenerationRequest) -> int:
        """Begin an attempt on the model in memory beside those that are open; return its id.

        Raises `JobError` if the request cannot be encoded, and `ProcessDied` as `generate` does.
        Being cancelled kills the process.
        """
        return await self._or_reset(self._or_kill(self._model.begin(request)))

    async def next_answer(self, on_progress: Callable[[int, int], None]) -> Answer:
        """Return the next open attempt to be answered, with its result or its error.

        `on_progress` is called with the id and the number of tokens of any of them. Raises
        `ProcessDied` as `generate` does; no attempt is open then. Being cancelled kills nothing:
        call it again for the answer.
        """
        return await self._or_reset(self._model.next_answer(on_progress))

    async def kill(self) -> None:
        """End the model process now, whatever is open; the next `load` starts a new one."""
        if self._client is not None:
            self._client.kill()
        await self.reset()

    async def reset(self) -> None:
        """End the model process; the next `load` starts a new one."""
        with anyio.CancelScope(shield=True):
            self._client = self._info = None
            await self._stack.aclose()

    @property
    def _model(self) -> ModelClient:
        assert self._client is not None, "load() comes first"
        return self._client

    async def _or_reset(self, answer: Awaitable[T]) -> T:
        """Await an answer; after a death of the process there is no model."""
        try:
            return await answer
        except ProcessDied:
            await self.reset()
            raise

    async def _or_kill(self, answer: Awaitable[T]) -> T:
        """Await an answer; kill the process if this is cancelled."""
        try:
            return await answer
        except anyio.get_cancelled_exc_class():
            if self._client is not None:
                self._client.kill()
            raise
