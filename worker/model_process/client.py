"""The worker's end of the model process: start it, load, generate, cancel, notice its death."""

import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mh_batch.jobs import errors
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.files import FILE_MODE
from mh_batch.worker.options import HANG_SECONDS
from mh_batch.worker.runtime.child import PYTHON
from mh_batch.worker.runtime.job_faults import at_stage

from .metal import metal_fault
from .preload import preloading
from .protocol import (
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
    Phase,
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

COMMAND = (*PYTHON, "-m", "mh_batch.worker.model_process.server")
SHUTDOWN_SECONDS = 10.0
LOAD_PATIENCE = 10
STDERR_TAIL_BYTES = 4000

TELL_DOWNLOADS = {
    "TQDM_POSITION": "-1",
    "TQDM_MININTERVAL": "5",
    "HF_HUB_DISABLE_PROGRESS_BARS": "0",
}
"""What makes huggingface_hub write its progress to a log too, every few seconds.

Without it a download is silent where there is no terminal, and a long one would pass for hung.
"""


T = TypeVar("T", Loaded, Generated, Measured)
R = TypeVar("R")


class Death(msgspec.Struct, frozen=True):
    """How a model process ended: in which phase, by a signal or with an exit code, its last words.

    One that the worker put an end to (it hung, or wrote nonsense) has the reason there too.
    """

    phase: Phase
    signal: int | None
    exit_code: int | None
    stderr_tail: str

    def tell(self, lines: int) -> str:
        """Return how it ended, with so many of its last lines, and a cure where one is known."""
        if self.signal is not None:
            how = f"killed by {signal_name(self.signal)}"
        else:
            how = f"exit code {self.exit_code}"
        last = "\n".join(self.stderr_tail.strip().splitlines()[-lines:])
        fault = metal_fault(self.stderr_tail)
        cure = f"; {fault.told}: {fault.cure}" if fault is not None else ""
        return f"{how} ({self.phase}); {last or 'it said nothing'}{cure}"

    @property
    def by_watchdog(self) -> bool:
        """Whether macOS ended it for its display's sake."""
        fault = metal_fault(self.stderr_tail)
        return fault is not None and fault.by_watchdog

    def __str__(self) -> str:
        return self.tell(1)


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

    def __init__(self, process: Process, log: BinaryIO, hang_seconds: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._log = log
        self._log_start = log.tell()
        self._to_child = process.stdin
        self._from_child = BufferedByteReceiveStream(process.stdout)
        self._next_id = 0
        self._current: int | None = None
        self._phase: Phase = "load"
        self._hang_seconds = hang_seconds
        self._body_due: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the model process."""
        return self._process.pid

    async def greet(self) -> None:
        """Read the child's hello; raises `BadFrame` if it speaks another protocol."""
        try:
            hello = await self._hear()
        except BadFrame as error:
            raise ProcessDied(await self._kill(str(error))) from None
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            raise BadFrame(f"the model process answers with another protocol: {hello}")

    async def load(self, model: str, options: EngineOptions) -> ModelInfo:
        """Load a model; raises `ModelNotLoaded`, or `ProcessDied` if it took the process along.

        As long as it writes to the log (a download does), it is alive; silence may last
        `LOAD_PATIENCE` times as long as elsewhere, for weights give no sign while they are read.
        While it tries the chat template it may be silent no longer than elsewhere.
        """
        self._phase = "load"
        return (await self._ask(Load(self._take_id(), model, options), Loaded)).info

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[int], None]
    ) -> Generation:
        """Run one attempt; raises `JobError` if it cannot be done, `ProcessDied` on a crash.

        One that gives no sign of life for `hang_seconds`, or writes what is no answer, is killed,
        and that is a crash.
        """
        self._phase = "render"
        request_frame = Generate(self._take_id(), request)
        return (await self._ask(request_frame, Generated, on_progress)).generation

    async def measure(self, model: str, request: GenerationRequest) -> Measured:
        """Measure one prompt for a model that need not be loaded.

        Raises `JobError` if it cannot be done, `ModelNotLoaded` if there is no such model.
        """
        self._phase = "load"  # its tokeniser is, the first time
        return await self._ask(Measure(self._take_id(), model, request), Measured)

    async def prepare(self, request: GenerationRequest) -> None:
        """Hint that this comes next; a hint that does not arrive costs nothing but time."""
        await self._hint(Prepare(request))

    async def settle(self) -> None:
        """Tell that a job is over, so that memory held beyond the limit is given back."""
        await self._hint(Settle())

    async def cancel(self) -> None:
        """End the running attempt within a token; its answer still comes. Does nothing without."""
        if self._current is not None:
            await self._hint(Cancel(self._current))

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
        self,
        frame: Load | Generate | Measure,
        expected: type[T],
        on_progress: Callable[[int], None] | None = None,
    ) -> T:
        request = _encode_request(frame)
        self._current = frame.id
        try:
            await self._in_time(partial(self._write, request))
            while True:
                answer = await self._hear()
                if isinstance(answer, Hello) or answer.id != frame.id:
                    raise BadFrame(f"an answer to nothing that was asked: {answer}")
                if isinstance(answer, Failed):
                    raise _error(answer)
                if isinstance(answer, expected):
                    return answer
                if not isinstance(answer, Progress):
                    raise BadFrame(f"{type(frame).__name__} answered with {type(answer).__name__}")
                self._phase = answer.phase
                if on_progress is not None:
                    on_progress(answer.tokens)
        except BadFrame as error:
            raise ProcessDied(await self._kill(str(error))) from None
        finally:
            self._current = None

    async def _hint(self, frame: Prepare | Settle | Cancel) -> None:
        """Send what is never answered; whoever waits for an answer hears of a process that died.

        A frame that cannot be encoded is left out: its job is told when it is asked for.
        """
        with suppress(ProcessDied, JobError):
            await self._write(_encode_request(frame))

    async def _write(self, request: bytes) -> None:
        try:
            await self._to_child.send(request)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            raise ProcessDied(await self._death()) from None

    async def _hear(self) -> ToParent:
        """Return the next frame; raises `ProcessDied` if there is none, or none in time."""
        return await self._in_time(self._receive)

    async def _in_time(self, step: Callable[[], Awaitable[R]]) -> R:
        """Take a step that waits for the process, again as long as it writes to the log at load.

        Raises `ProcessDied`, with the process killed, if it gives no sign of life.
        """
        loading = self._phase == "load"
        patience = self._hang_seconds * (LOAD_PATIENCE if loading else 1)
        while True:
            logged = self._log_bytes()
            with anyio.move_on_after(patience):
                return await step()
            if not loading or self._log_bytes() == logged:
                rendering = self._phase in ("template", "render")
                where = ", the chat template may never end" if rendering else ""
                why = f"no sign of life for {patience:g} s{where}"
                raise ProcessDied(await self._kill(why))

    async def _receive(self) -> ToParent:
        """Return the next frame; one that is broken off is gone on with the next time."""
        try:
            if self._body_due is None:
                header = await self._from_child.receive_exactly(HEADER_BYTES)
                self._body_due = body_length(header)
            body = await self._from_child.receive_exactly(self._body_due)
            self._body_due = None
            return decode_to_parent(body)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            raise ProcessDied(await self._death()) from None

    async def _kill(self, why: str) -> Death:
        """Kill a process that is of no use any more; its log says why."""
        with suppress(OSError):  # a full disk must not keep the process alive
            os.write(self._log.fileno(), f"mh-batch: {why}: killed\n".encode())
        self.kill()
        return await self._death()

    async def _death(self) -> Death:
        """Wait for the process to be gone and say how it went."""
        code = await self._process.wait()
        self._log.seek(max(self._log_start, self._log_bytes() - STDERR_TAIL_BYTES))
        tail = self._log.read().decode("utf-8", "replace")
        signalled = code < 0
        return Death(self._phase, -code if signalled else None, None if signalled else code, tail)

    def _log_bytes(self) -> int:
        return self._log.seek(0, 2)


def _encode_request(frame: ToChild) -> bytes:
    """Return an encoded request; raises `JobError` if it is too long or cannot be encoded."""
    with at_stage("encode"):
        try:
            return encode(frame)
        except BadFrame as error:
            raise JobError(str(error)) from None


def _error(failed: Failed) -> errors.MhBatchError:
    """Turn a `Failed` back into the error it was in the child."""
    if failed.stage is not None:
        return errors.InternalError(failed.message, failed.stage)
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, errors.MhBatchError):
        return kind(failed.message)
    return errors.EnvironmentFault(f"{failed.kind}: {failed.message}")


@asynccontextmanager
async def start_model(
    log_path: Path,
    command: tuple[str, ...] = COMMAND,
    hang_seconds: float = HANG_SECONDS,
    preload_blas: str | None = None,
) -> AsyncGenerator[ModelClient, None]:
    """Start a model process whose output goes to the end of `log_path`; end it on the way out.

    Raises `EnvironmentFault` if there is no `preload_blas` to start it with.
    """
    env = {**os.environ, **TELL_DOWNLOADS, **preloading(preload_blas)}
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(log_path, flags, FILE_MODE), "a+b") as log:
        log.seek(0, 2)
        # a session of its own: the terminal's Ctrl-C and hang-up are the worker's to answer
        process = await anyio.open_process(command, stderr=log, start_new_session=True, env=env)
        client = ModelClient(process, log, hang_seconds)
        try:
            await client.greet()
            yield client
        finally:
            await client.close()
