"""The worker's end of the protocol: start the model process, load, generate, cancel."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio

from mh_batch.jobs.errors import JobError, MhBatchError
from mh_batch.jobs.files import FILE_MODE
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.worker.options import WorkerSettings
from mh_batch.worker.runtime.child import PYTHON
from mh_batch.worker.runtime.job_faults import at_stage

from .death import ProcessDied
from .exchange import Exchange, error_of
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
    Phase,
    Prepare,
    Selftest,
    Selftested,
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

T = TypeVar("T", Loaded, Measured, Selftested)


class Answer(NamedTuple):
    """What came of the request with this id: an error concerns this request alone."""

    id: int
    outcome: Generation | MhBatchError


class ModelClient:
    """Sends requests to one running model process. Made by `start_model()`.

    Attempts may be open beside each other, with `begin` and `next_answer`; everything else that is
    answered is for when none is open. After `ProcessDied` nothing is open.
    """

    def __init__(self, process: ModelProcess, settings: WorkerSettings) -> None:
        self.process = process
        self._settings = settings
        self._next_id = 0
        self._exchange = Exchange(process)

    @property
    def pid(self) -> int:
        """The process id of the model process."""
        return self.process.pid

    @property
    def open(self) -> frozenset[int]:
        """The attempts that have begun and are not answered."""
        return frozenset(self._exchange.attempts)

    @property
    def phases(self) -> Mapping[int, Phase]:
        """The phase of every open attempt, by the id of its request."""
        return self._exchange.attempts

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
        settings = self._settings
        load = Load(self._take_id(), model, settings.engine, settings.parallel)
        return (await self._request(load, Loaded)).info

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt; raises `JobError` if it cannot be done, `ProcessDied` on a crash.

        A process that hangs or sends an invalid frame is killed, which counts as a crash.
        """
        assert not self.open, "other attempts are open: their answers would be lost"
        request_id = await self.begin(request)
        try:
            outcome = (await self.next_answer(lambda _, tokens: on_progress(tokens))).outcome
        finally:
            self._exchange.give_up(request_id)
        if isinstance(outcome, MhBatchError):
            raise outcome
        return outcome

    async def begin(self, request: GenerationRequest) -> int:
        """Begin an attempt and return its id; `next_answer` returns what comes of it.

        Raises `JobError` if the request cannot be encoded, and `ProcessDied`. If this is cancelled
        the request may be sent in part: the process is of no more use then.
        """
        frame = GenerateFrame(self._take_id(), request)
        await self._exchange.send(frame, _encode(frame))
        return frame.id

    async def next_answer(self, on_progress: Callable[[int, int], None]) -> Answer:
        """Return the next open attempt to be answered, with its result or its error.

        `on_progress` is called with the id and the number of tokens of any of them. Raises
        `ProcessDied` with the phases of all. May be cancelled and called again: nothing is lost.
        """
        assert self.open, "no attempt is open: nothing would ever be answered"
        reply = await self._exchange.receive(on_progress)
        if isinstance(reply, Failed):
            return Answer(reply.id, error_of(reply))
        assert isinstance(reply, Generated), reply
        return Answer(reply.id, reply.generation)

    async def measure(self, model: str, request: GenerationRequest) -> Measured:
        """Measure one prompt for a model that need not be loaded.

        Raises `JobError` if it cannot be done, `ModelNotLoaded` if there is no such model.
        """
        return await self._request(Measure(self._take_id(), model, request), Measured)

    async def selftest(self, parallel: int, *, thorough: bool) -> Selftested:
        """Check so many slots on the loaded model.

        Raises `EnvironmentFault` if it cannot run in so many, and `JobError` if the test fails by
        an error of the program.
        """
        return await self._request(Selftest(self._take_id(), parallel, thorough), Selftested)

    async def prepare(self, request: GenerationRequest) -> None:
        """Say which request comes next, so that its prompt is rendered ahead."""
        await self._send_hint(Prepare(request))

    async def job_done(self) -> None:
        """Say that a job is over, so that memory held beyond the limit is given back."""
        await self._send_hint(JobDone())

    async def cancel(self, request_id: int) -> None:
        """End an open attempt within a token; it is still answered.

        Does nothing if there is no such attempt.
        """
        if request_id in self.open:
            await self._send_hint(Cancel(request_id))

    async def close(self) -> None:
        """End the process."""
        await self.process.close(encode(Shutdown()))

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _request(self, frame: Load | Measure | Selftest, expected: type[T]) -> T:
        """Send a request and return its answer; raises the error if it failed."""
        assert not self.open, "attempts are open: their answers would be lost"
        try:
            await self._exchange.send(frame, _encode(frame))
            reply = await self._exchange.receive(lambda _, __: None)
        finally:
            self._exchange.give_up(frame.id)
        if isinstance(reply, Failed):
            raise error_of(reply)
        assert isinstance(reply, expected), reply
        return reply

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
        log_start = log.seek(0, 2)
        # a session of its own: the terminal's Ctrl-C and hang-up are for the worker
        child = await anyio.open_process(command, stderr=log, start_new_session=True, env=env)
        process = ModelProcess(child, log, log_start, settings.hang_seconds)
        client = ModelClient(process, settings)
        try:
            await client.handshake()
            yield client
        finally:
            await client.close()
