"""Starts the worker of a server, starts it again when it ends, and ends it with the server."""

import signal
import subprocess
from contextlib import suppress

import anyio
import anyio.abc

from mh_batch.worker.server.note import note
from mh_batch.worker.server.state import WorkerState

RESTART_SECONDS = 60.0
"""How long after its end a worker is started again."""

MOST_LINE_BYTES = 10_000


class WorkerProcess:
    """The worker in a process of its own: its end is not that of the server."""

    def __init__(self, command: tuple[str, ...], state: WorkerState) -> None:
        """`command` starts it, `state` is kept up to date."""
        self._command = command
        self._state = state
        self._process: anyio.abc.Process | None = None
        self._stopping = anyio.Event()
        self._last_words = ""

    async def run(self) -> None:
        """Keep a worker at the database until `stop`; return when the last one has ended."""
        while not self._stopping.is_set():
            code = await self._run_once()
            if self._stopping.is_set():
                return
            self._state.fault = self._last_words or f"it ended with exit code {code}"
            note(f"the worker ended ({self._state.fault}); the server goes on, and starts it again")
            with anyio.move_on_after(RESTART_SECONDS):
                await self._stopping.wait()

    def stop(self) -> None:
        """Ask the worker to end after the running attempts; a second time, at once."""
        self._stopping.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def _run_once(self) -> int:
        # a session of its own: Ctrl-C reaches the server alone, which then ends the worker
        process = await anyio.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        async with process:
            self._process = process
            self._state.running = True
            try:
                await self._relay(process)
                return await process.wait()
            finally:
                self._state.running = False
                self._process = None

    async def _relay(self, process: anyio.abc.Process) -> None:
        """Pass on what the worker says, and remember its last line."""
        assert process.stderr is not None, "it was asked for"
        rest = b""
        async for block in process.stderr:
            *lines, rest = (rest + block).split(b"\n")
            for line in [*lines, *([rest] if len(rest) > MOST_LINE_BYTES else [])]:
                self._say(line)
            rest = b"" if len(rest) > MOST_LINE_BYTES else rest
        self._say(rest)

    def _say(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._last_words = text
            note(f"worker: {text}")
