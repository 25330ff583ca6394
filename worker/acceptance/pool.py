"""The checking processes as the worker holds them: started when needed, killed when too slow."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.files import FILE_MODE
from mh_batch.worker.runtime.child import PYTHON

from .function import FunctionFile
from .protocol import MAX_LINE_BYTES, Check, LoadFunction, Verdict

COMMAND = (*PYTHON, "-m", "mh_batch.worker.acceptance")
MOST_PROCESSES = 4
CLOSE_SECONDS = 2.0

_verdict = msgspec.json.Decoder(Verdict)


class CheckFailed(Exception):
    """A checking process gave no verdict; the message says why."""


class CheckProcess:
    """One checking process."""

    def __init__(self, process: Process) -> None:
        """Take a process that was started, and that has loaded nothing yet."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._to_child = process.stdin
        self._from_child = BufferedByteReceiveStream(process.stdout)

    async def ask(self, frame: LoadFunction | Check, seconds: float) -> Verdict:
        """Send a frame and return the verdict; raises `CheckFailed` if there is none in time."""
        try:
            with anyio.fail_after(seconds):
                await self._to_child.send(msgspec.json.encode(frame) + b"\n")
                return _verdict.decode(await self._from_child.receive_until(b"\n", MAX_LINE_BYTES))
        except TimeoutError:
            raise CheckFailed(f"no verdict within {seconds:g} s") from None
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, OSError):
            code = await self._process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise CheckFailed(f"its process ended with {how}") from None

    async def end(self, seconds: float = 0.0) -> None:
        """Kill the process unless it ends by itself within `seconds`."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(seconds), suppress(OSError, anyio.BrokenResourceError):
                await self._to_child.aclose()
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._process.aclose()


class CheckPool:
    """Checks answers in up to `most` processes, each within `seconds`."""

    def __init__(
        self, function: FunctionFile | None, log_path: Path, seconds: float, most: int
    ) -> None:
        """`function` is loaded by every process, `None` for rules alone; its output is logged."""
        self._load = LoadFunction() if function is None else function.frame
        self._log_path = log_path
        self._seconds = seconds
        self._limiter = anyio.CapacityLimiter(max(1, min(most, MOST_PROCESSES)))
        self._idle: list[CheckProcess] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await self._idle.pop().end(CLOSE_SECONDS)

    async def try_function(self) -> None:
        """Start a process; raises `InputError` if the function cannot be loaded there."""
        try:
            self._idle.append(await self._start())
        except CheckFailed as error:
            where = f"{self._load.path}:{self._load.name}"
            raise InputError(
                f"accept: {where}: {error} (it is loaded by its path, in a process that imports "
                "only what is installed)"
            ) from None

    async def check(self, check: Check) -> Verdict:
        """Return the verdict on an answer; without one, the fault says why."""
        async with self._limiter:
            try:
                process = self._idle.pop() if self._idle else await self._start()
            except CheckFailed as error:
                return Verdict(fault=str(error))
            done = False
            try:
                verdict = await process.ask(check, self._seconds)
                done = True
            except CheckFailed as error:
                return Verdict(fault=str(error))
            finally:
                if not done:
                    await process.end()
            self._idle.append(process)
            return verdict

    async def _start(self) -> CheckProcess:
        """Return a process that has loaded the function; raises `CheckFailed`."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(os.open(self._log_path, flags, FILE_MODE), "ab") as log:
                # a session of its own: the terminal's Ctrl-C and hang-up are for the worker
                child = await anyio.open_process(COMMAND, stderr=log, start_new_session=True)
        except OSError as error:
            raise CheckFailed(f"no process for it: {error.strerror}") from None
        process, loaded = CheckProcess(child), False
        try:
            verdict = await process.ask(self._load, self._load.seconds)
            loaded = verdict.fault is None
        finally:
            if not loaded:
                await process.end()
        if verdict.fault is not None:
            raise CheckFailed(verdict.fault)
        return process
