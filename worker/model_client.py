"""The worker's end of the model process: start it, load, generate, cancel, notice its death."""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mh_batch.jobs import errors
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.settings import EngineOptions

from .artifacts import FILE_MODE
from .frames import (
    HEADER_BYTES,
    PROTOCOL,
    BadFrame,
    Cancel,
    Failed,
    Generate,
    Generated,
    Hello,
    Load,
    Loaded,
    Measure,
    Measured,
    Prepare,
    Progress,
    Settle,
    Shutdown,
    ToChild,
    ToParent,
    body_length,
    decode_to_parent,
    encode,
)

COMMAND = (sys.executable, "-m", "mh_batch.worker.model_process")
SHUTDOWN_SECONDS = 10.0
STDERR_TAIL_BYTES = 4000


class Death(msgspec.Struct, frozen=True):
    """How a model process ended: by a signal or with an exit code, and its last words."""

    signal: int | None
    exit_code: int | None
    stderr_tail: str

    def __str__(self) -> str:
        if self.signal is not None:
            how = f"killed by {signal_name(self.signal)}"
        else:
            how = f"exit code {self.exit_code}"
        last = self.stderr_tail.strip().splitlines()[-1:] or ["it said nothing"]
        return f"{how}; {last[0]}"


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; a signal without a name is given by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ProcessDied(errors.ModelProcessDied):
    """The model process ended while an answer was due; `death` says how."""

    def __init__(self, death: Death) -> None:
        self.death = death
        super().__init__(f"the model process died: {death}")


class ModelClient:
    """One running model process. Made by `start_model()`."""

    def __init__(self, process: Process, log: BinaryIO) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._log = log
        self._log_start = log.tell()
        self._to_child = process.stdin
        self._from_child = BufferedByteReceiveStream(process.stdout)
        self._next_id = 0
        self._current: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the model process."""
        return self._process.pid

    async def greet(self) -> None:
        """Read the child's hello; raises `BadFrame` if it is another program's."""
        hello = await self._receive()
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            raise BadFrame(f"the model process answers with another protocol: {hello}")

    async def load(self, model: str, options: EngineOptions) -> ModelInfo:
        """Load a model; raises `ModelNotLoaded`, or `ProcessDied` if it took the process along."""
        answer = await self._ask(Load(self._take_id(), model, options))
        if not isinstance(answer, Loaded):
            raise BadFrame(f"a Load was answered with {type(answer).__name__}")
        return answer.info

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt; raises `JobError` if it cannot be done, `ProcessDied` on a crash."""
        answer = await self._ask(Generate(self._take_id(), request), on_progress)
        if not isinstance(answer, Generated):
            raise BadFrame(f"a Generate was answered with {type(answer).__name__}")
        return answer.generation

    async def measure(self, model: str, request: GenerationRequest) -> Measured:
        """Measure one prompt for a model that need not be loaded.

        Raises `JobError` if it cannot be done, `ModelNotLoaded` if there is no such model.
        """
        answer = await self._ask(Measure(self._take_id(), model, request))
        if not isinstance(answer, Measured):
            raise BadFrame(f"a Measure was answered with {type(answer).__name__}")
        return answer

    async def prepare(self, request: GenerationRequest) -> None:
        """Hint that this comes next; a hint that does not arrive costs nothing but time."""
        with suppress(ProcessDied):
            await self._send(Prepare(request))

    async def settle(self) -> None:
        """Tell that a job is over, so that memory held beyond the limit is given back."""
        with suppress(ProcessDied):
            await self._send(Settle())

    async def cancel(self) -> None:
        """End the running attempt within a token; its answer still comes."""
        if self._current is not None:
            await self._send(Cancel(self._current))

    async def close(self) -> None:
        """Let the process end, and make sure that it does."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                with anyio.move_on_after(SHUTDOWN_SECONDS):
                    # a broken pipe: it is ending already
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                        await self._to_child.send(encode(Shutdown()))
                    await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._process.aclose()

    def kill(self) -> None:
        """End the process now."""
        if self._process.returncode is None:
            self._process.kill()

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _ask(
        self, frame: Load | Generate | Measure, on_progress: Callable[[int], None] | None = None
    ) -> ToParent:
        self._current = frame.id
        try:
            await self._send(frame)
            while True:
                answer = await self._receive()
                if isinstance(answer, Hello) or answer.id != frame.id:
                    raise BadFrame(f"an answer to nothing that was asked: {answer}")
                if isinstance(answer, Failed):
                    raise _error(answer)
                if not isinstance(answer, Progress):
                    return answer
                if on_progress is not None:
                    on_progress(answer.tokens)
        finally:
            self._current = None

    async def _send(self, frame: ToChild) -> None:
        try:
            await self._to_child.send(encode(frame))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            raise ProcessDied(await self._death()) from None

    async def _receive(self) -> ToParent:
        try:
            header = await self._from_child.receive_exactly(HEADER_BYTES)
            return decode_to_parent(await self._from_child.receive_exactly(body_length(header)))
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            raise ProcessDied(await self._death()) from None

    async def _death(self) -> Death:
        """Wait for the process to be gone and say how it went."""
        code = await self._process.wait()
        self._log.seek(max(self._log_start, self._log.seek(0, 2) - STDERR_TAIL_BYTES))
        tail = self._log.read().decode("utf-8", "replace")
        return Death(-code if code < 0 else None, code if code >= 0 else None, tail)


def _error(failed: Failed) -> errors.MhBatchError:
    """Turn a `Failed` back into the error it was in the child."""
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, errors.MhBatchError):
        return kind(failed.message)
    return errors.EnvironmentFault(f"{failed.kind}: {failed.message}")


@asynccontextmanager
async def start_model(
    log_path: Path, command: tuple[str, ...] = COMMAND
) -> AsyncGenerator[ModelClient, None]:
    """Start a model process whose output goes to the end of `log_path`; end it on the way out."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(log_path, flags, FILE_MODE), "a+b") as log:
        log.seek(0, 2)
        # a session of its own: the terminal's Ctrl-C and hang-up are the worker's to answer
        process = await anyio.open_process(command, stderr=log, start_new_session=True)
        client = ModelClient(process, log)
        try:
            await client.greet()
            yield client
        finally:
            await client.close()
