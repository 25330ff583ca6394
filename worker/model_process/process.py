"""The model process as the worker holds it: its pipes, its log and its end."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from .death import Death, ProcessDied
from .protocol import HEADER_BYTES, Phase, ToParent, body_length, decode_to_parent

SHUTDOWN_SECONDS = 10.0
LOAD_PATIENCE = 10
STDERR_TAIL_BYTES = 4000

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

T = TypeVar("T")


class ModelProcess:
    """A child process that is killed if it gives no sign of life for `hang_seconds`.

    `phase` is what it was last known to do. While it loads, output in its log is a sign of life
    (a download writes there), and silence may last `LOAD_PATIENCE` times as long: reading weights
    gives no sign. Trying the chat template is a phase of its own, with the usual limit. Any frame
    is a sign of life, whichever request it is about. Only time spent waiting here counts: frames
    that nobody has read yet are no silence.
    """

    def __init__(
        self, process: Process, log: BinaryIO, log_start: int, hang_seconds: float
    ) -> None:
        """Take a started process whose standard error goes to the end of `log`.

        `log_start` is where the log ended before the process was started, in bytes. It cannot be
        asked for here: the process may have written already.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        self.phase: Phase = "load"
        self._process = process
        self._log = log
        self._log_start = log_start
        self._to_child = process.stdin
        self._from_child = BufferedByteReceiveStream(process.stdout)
        self._hang_seconds = hang_seconds
        self._body_bytes: int | None = None
        self._silent_seconds = 0.0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def start_clock(self) -> None:
        """Count the silence from now on: an answer is due, and none was before."""
        self._silent_seconds = 0.0

    async def send(self, frame: bytes) -> None:
        """Write an encoded frame; raises `ProcessDied` if it is not taken in time."""
        await self._in_time(partial(self._write, frame))

    async def send_hint(self, frame: bytes) -> None:
        """Write a frame that may get lost: whoever waits for an answer sees the death."""
        with suppress(ProcessDied):
            await self._write(frame)

    async def receive(self) -> ToParent:
        """Return the next frame; raises `ProcessDied` if there is none, or none in time.

        Raises `BadFrame` for anything that is not a frame. Being cancelled loses no frame, and the
        silence so far counts for the next call.
        """
        frame = await self._in_time(self._read)
        self._silent_seconds = 0.0
        return frame

    def kill(self) -> None:
        """End the process now."""
        if self._process.returncode is None:
            self._process.kill()

    async def kill_for(self, reason: str) -> Death:
        """Kill a process that is of no more use, write the reason to its log, return its death."""
        with suppress(OSError):  # a full disk must not keep the process alive
            os.write(self._log.fileno(), f"mh-batch: {reason}: killed\n".encode())
        self.kill()
        return await self._death()

    async def close(self, shutdown: bytes) -> None:
        """Ask the process to end with the frame `shutdown`, and make sure that it does."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                with anyio.move_on_after(SHUTDOWN_SECONDS):
                    # a broken pipe: it is ending already
                    with suppress(*_GONE):
                        await self._to_child.send(shutdown)
                    await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._process.aclose()

    async def _write(self, frame: bytes) -> None:
        try:
            await self._to_child.send(frame)
        except _GONE:
            raise ProcessDied(await self._death()) from None

    async def _read(self) -> ToParent:
        """Return the next frame; a frame that was read in part is continued by the next call."""
        try:
            if self._body_bytes is None:
                header = await self._from_child.receive_exactly(HEADER_BYTES)
                self._body_bytes = body_length(header)
            body = await self._from_child.receive_exactly(self._body_bytes)
            self._body_bytes = None
            return decode_to_parent(body)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            raise ProcessDied(await self._death()) from None

    async def _in_time(self, step: Callable[[], Awaitable[T]]) -> T:
        """Await `step`; kill the process and raise `ProcessDied` if it gives no sign of life."""
        loading = self.phase == "load"
        patience = self._hang_seconds * (LOAD_PATIENCE if loading else 1)
        while True:
            logged, began = self._log_bytes(), anyio.current_time()
            try:
                with anyio.move_on_after(patience - self._silent_seconds):
                    return await step()
            finally:
                self._silent_seconds += anyio.current_time() - began
            if not loading or self._log_bytes() == logged:
                rendering = self.phase in ("template", "render")
                where = ", the chat template may never end" if rendering else ""
                reason = f"no sign of life for {patience:g} s{where}"
                raise ProcessDied(await self.kill_for(reason))
            self._silent_seconds = 0.0

    async def _death(self) -> Death:
        """Wait until the process is gone and return how it ended."""
        code = await self._process.wait()
        self._log.seek(max(self._log_start, self._log_bytes() - STDERR_TAIL_BYTES))
        tail = self._log.read().decode("utf-8", "replace")
        signalled = code < 0
        return Death(self.phase, -code if signalled else None, None if signalled else code, tail)

    def _log_bytes(self) -> int:
        return self._log.seek(0, 2)
