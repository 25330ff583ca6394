"""The worker's end of the protocol: start the model process, load, generate, cancel."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio

from mh_batch.jobs import errors
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.files import FILE_MODE
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.options import WorkerSettings
from mh_batch.worker.runtime.child import PYTHON
from mh_batch.worker.runtime.job_faults import at_stage

from .death import ProcessDied
from .preload import preloading
from .process import ModelProcess
from .protocol import (
    PROTOCOL,
    BadFrame,
    Cancel,
    Failed,
    Generated,
    GenerateFrame,
    Hello,
    JobDone,
    Load,
    Loaded,
    Measure,
    Measured,
    Prepare,
    Progress,
    Shutdown,
    ToChild,
    encode,
)

COMMAND = (*PYTHON, "-m", "mh_batch.worker.model_process")

DEFAULT_SETTINGS = WorkerSettings()

DOWNLOAD_PROGRESS = {
    "TQDM_POSITION": "-1",
    "TQDM_MININTERVAL": "5",
    "HF_HUB_DISABLE_PROGRESS_BARS": "0",
}
"""Makes huggingface_hub write its progress to a log too, every few seconds.

By default a download is silent where there is no terminal, and a long one would look hung.
"""

T = TypeVar("T", Loaded, Generated, Measured)


class ModelClient:
    """Sends requests to one running model process. Made by `start_model()`."""

    def __init__(self, process: ModelProcess, engine: EngineOptions) -> None:
        self.process = process
        self._engine = engine
        self._next_id = 0
        self._current: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the model process."""
        return self.process.pid

    async def handshake(self) -> None:
        """Read the child's hello; raises `BadFrame` if it uses another protocol version."""
        try:
            hello = await self.process.receive()
        except BadFrame as error:
            raise ProcessDied(await self.process.kill_for(str(error))) from None
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            raise BadFrame(f"the model process answers with another protocol: {hello}")

    async def load(self, model: str) -> ModelInfo:
        """Load a model; raises `ModelNotLoaded`, or `ProcessDied` if the process died of it."""
        self.process.phase = "load"
        return (await self._request(Load(self._take_id(), model, self._engine), Loaded)).info

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt; raises `JobError` if it cannot be done, `ProcessDied` on a crash.

        A process that hangs or sends an invalid frame is killed, which counts as a crash.
        """
        self.process.phase = "render"
        frame = GenerateFrame(self._take_id(), request)
        return (await self._request(frame, Generated, on_progress)).generation

    async def measure(self, model: str, request: GenerationRequest) -> Measured:
        """Measure one prompt for a model that need not be loaded.

        Raises `JobError` if it cannot be done, `ModelNotLoaded` if there is no such model.
        """
        self.process.phase = "load"  # the first time, its tokeniser is loaded
        return await self._request(Measure(self._take_id(), model, request), Measured)

    async def prepare(self, request: GenerationRequest) -> None:
        """Say which request comes next, so that its prompt is rendered ahead."""
        await self._send_hint(Prepare(request))

    async def job_done(self) -> None:
        """Say that a job is over, so that memory held beyond the limit is given back."""
        await self._send_hint(JobDone())

    async def cancel(self) -> None:
        """End the running attempt within a token; it is still answered. Else does nothing."""
        if self._current is not None:
            await self._send_hint(Cancel(self._current))

    async def close(self) -> None:
        """End the process."""
        await self.process.close(encode(Shutdown()))

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _request(
        self,
        frame: Load | GenerateFrame | Measure,
        expected: type[T],
        on_progress: Callable[[int], None] | None = None,
    ) -> T:
        """Send a request and return its answer; raises the error if it failed."""
        encoded = _encode(frame)
        self._current = frame.id
        try:
            await self.process.send(encoded)
            while True:
                answer = await self.process.receive()
                if isinstance(answer, Hello) or answer.id != frame.id:
                    raise BadFrame(f"an answer to no request: {answer}")
                if isinstance(answer, Failed):
                    raise _error(answer)
                if isinstance(answer, expected):
                    return answer
                if not isinstance(answer, Progress):
                    raise BadFrame(f"{type(frame).__name__} answered with {type(answer).__name__}")
                self.process.phase = answer.phase
                if on_progress is not None:
                    on_progress(answer.tokens)
        except BadFrame as error:
            raise ProcessDied(await self.process.kill_for(str(error))) from None
        finally:
            self._current = None

    async def _send_hint(self, frame: Prepare | JobDone | Cancel) -> None:
        """Send without awaiting a reply.

        A frame that cannot be encoded is dropped: the error shows when its job is run.
        """
        with suppress(JobError):
            await self.process.send_hint(_encode(frame))


def _encode(frame: ToChild) -> bytes:
    """Return an encoded frame; raises `JobError` if it is too long or cannot be encoded."""
    with at_stage("encode"):
        try:
            return encode(frame)
        except BadFrame as error:
            raise JobError(str(error)) from None


def _error(failed: Failed) -> errors.MhBatchError:
    if failed.stage is not None:
        return errors.InternalError(failed.message, failed.stage)
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, errors.MhBatchError):
        return kind(failed.message)
    return errors.EnvironmentFault(f"{failed.kind}: {failed.message}")


@asynccontextmanager
async def start_model(
    log_path: Path, settings: WorkerSettings = DEFAULT_SETTINGS, command: tuple[str, ...] = COMMAND
) -> AsyncGenerator[ModelClient, None]:
    """Start a model process that appends its output to `log_path`; end it on exit.

    Raises `EnvironmentFault` if the library in `preload_blas` cannot be used.
    """
    env = {**os.environ, **DOWNLOAD_PROGRESS, **preloading(settings.engine.preload_blas)}
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(log_path, flags, FILE_MODE), "a+b") as log:
        log.seek(0, 2)
        # a session of its own: the terminal's Ctrl-C and hang-up are for the worker
        child = await anyio.open_process(command, stderr=log, start_new_session=True, env=env)
        process = ModelProcess(child, log, settings.hang_seconds)
        client = ModelClient(process, settings.engine)
        try:
            await client.handshake()
            yield client
        finally:
            await client.close()
