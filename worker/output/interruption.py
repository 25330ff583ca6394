"""SQL that Ctrl-C and a time limit can interrupt, however long one step of it takes.

SQLite does not return to Python during a step, and Python handles signals only then. So a second
thread waits for signals and interrupts SQLite.
"""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from types import FrameType
from typing import NoReturn

from sqlite_utils import Database

from mh_batch.jobs.errors import Interrupted
from mh_batch.store.connection import open_reader
from mh_batch.worker.runtime.signals import handling

GRACE_SECONDS = 0.7
"""How long an interrupted step may go on: SQLite checks between its instructions only."""

STOPPED = 130
"""The exit code after Ctrl-C, as in shells."""


@contextmanager
def reading_from(path: Path, seconds: float | None = None) -> Iterator[Database]:
    """Open the database at `path` for a block that only reads; Ctrl-C ends the block at once.

    `seconds` limits the block, `None` sets no limit. Raises what `open_reader` raises, and
    `Interrupted` when the time is over.
    """
    with closing(open_reader(path)) as db, interruptible(db.conn, seconds):
        yield db


@contextmanager
def interruptible(conn: sqlite3.Connection, seconds: float | None = None) -> Iterator[None]:
    """Interrupt what `conn` does in the block within a second of Ctrl-C or the end of `seconds`.

    The connection must only read: if a step cannot be interrupted, the process exits. Outside the
    main thread, where no signal arrives, this does nothing. Raises `KeyboardInterrupt` and
    `Interrupted`.
    """
    if current_thread() is not main_thread():
        yield
        return
    watch = _Watch(conn, seconds)
    # a shell starts background jobs with Ctrl-C ignored, and so it stays
    handled = [signal.SIGINT] if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else []
    with handling(watch.handle, *handled, signal.SIGALRM), watch.running():
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                watch.end()
            raise


class _Watch:
    """Waits for signals on a thread of its own and interrupts the connection."""

    def __init__(self, conn: sqlite3.Connection, seconds: float | None) -> None:
        self._conn = conn
        self._seconds = seconds
        self._handled = Event()
        self._over = False

    def handle(self, number: int, _: FrameType | None = None) -> NoReturn:
        """Handle a signal on the main thread, once that is back in Python."""
        self._handled.set()
        self._over = self._over or number == signal.SIGALRM
        self.end()

    def end(self) -> NoReturn:
        """Raise the reason of the interruption."""
        if self._over:
            raise Interrupted(self._message)
        raise KeyboardInterrupt

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch during the block."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        thread = Thread(target=self._listen, args=(reading,), name="signals", daemon=True)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread.start()
        try:
            signal.setitimer(signal.ITIMER_REAL, self._seconds or 0)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.set_wakeup_fd(before)
            # the thread ends with the pipe
            os.close(writing)
            thread.join()
            os.close(reading)

    def _listen(self, signals: int) -> None:
        while came := os.read(signals, 1):
            if came[0] not in (signal.SIGINT, signal.SIGALRM):
                continue
            self._over = self._over or came[0] == signal.SIGALRM
            # raised if the connection is closed: then nothing runs on it
            with suppress(sqlite3.ProgrammingError):
                self._conn.interrupt()
            if not self._handled.wait(GRACE_SECONDS):
                self._exit()

    def _exit(self) -> NoReturn:
        """Exit during a step that cannot be interrupted: it only reads, so nothing is lost."""
        if self._over:
            os.write(2, f"mh-batch: {self._message}\n".encode())
        os._exit(Interrupted.exit_code if self._over else STOPPED)

    @property
    def _message(self) -> str:
        return f"stopped after {self._seconds:g} s; --timeout gives it more"
