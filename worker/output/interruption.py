"""SQL that ends when somebody wants it to, however long one step of it takes.

SQLite works on a step without coming back to Python, and only there is a signal answered. So a
thread hears of signals beside it, and tells SQLite.
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
"""How long a step may go on once it is to end: SQLite looks between its instructions only."""

STOPPED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


@contextmanager
def reading_from(path: Path, seconds: float | None = None) -> Iterator[Database]:
    """Open the database at `path` for a block that only reads, and that Ctrl-C ends at once.

    `seconds` is how long the block may take, `None` for any time. Raises what `open_reader`
    raises, and `Interrupted` once the time is over.
    """
    with closing(open_reader(path)) as db, interruptible(db.conn, seconds):
        yield db


@contextmanager
def interruptible(conn: sqlite3.Connection, seconds: float | None = None) -> Iterator[None]:
    """Let Ctrl-C, and the end of `seconds`, end within a second what `conn` does in the block.

    The connection only reads: a step that does not end otherwise ends the process. In another
    thread than the main one, where no signal arrives, nothing is done. Raises `KeyboardInterrupt`
    and `Interrupted`.
    """
    if current_thread() is not main_thread():
        yield
        return
    watch = _Watch(conn, seconds)
    # a shell that starts us in the background has Ctrl-C ignored, and so it stays
    heard = [signal.SIGINT] if signal.getsignal(signal.SIGINT) != signal.SIG_IGN else []
    with handling(watch.answer, *heard, signal.SIGALRM), watch.running():
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                watch.end()
            raise


class _Watch:
    """Hears of signals on a thread of its own, and sees to it that the main one answers them."""

    def __init__(self, conn: sqlite3.Connection, seconds: float | None) -> None:
        self._conn = conn
        self._seconds = seconds
        self._answered = Event()
        self._over = False

    def answer(self, number: int, _: FrameType | None = None) -> NoReturn:
        """Answer a signal on the main thread, which is back in Python."""
        self._answered.set()
        self._over = self._over or number == signal.SIGALRM
        self.end()

    def end(self) -> NoReturn:
        """Raise why it ends."""
        if self._over:
            raise Interrupted(self._told)
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
            # the end of the pipe is the end of the thread
            os.close(writing)
            thread.join()
            os.close(reading)

    def _listen(self, signals: int) -> None:
        while came := os.read(signals, 1):
            if came[0] not in (signal.SIGINT, signal.SIGALRM):
                continue
            self._over = self._over or came[0] == signal.SIGALRM
            # closed meanwhile: nothing runs on it any more
            with suppress(sqlite3.ProgrammingError):
                self._conn.interrupt()
            if not self._answered.wait(GRACE_SECONDS):
                self._leave()

    def _leave(self) -> NoReturn:
        """End the process under a step that does not end: it reads, so nothing is lost."""
        if self._over:
            os.write(2, f"mh-batch: {self._told}\n".encode())
        os._exit(Interrupted.exit_code if self._over else STOPPED)

    @property
    def _told(self) -> str:
        return f"stopped after {self._seconds:g} s; --timeout gives it more"
