"""A long step of SQL ends when somebody wants it to, or when its time is over."""

import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from helpers.command_line import MAIN, mh_batch_process
from mh_batch.jobs.errors import Interrupted
from mh_batch.worker.output.interruption import interruptible

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
# one instruction of SQLite, which looks for nothing meanwhile: each character is looked for in all
STUBBORN = (
    "SELECT length(trim(replace(hex(zeroblob(100000)), '0', 'a'), "
    "replace(hex(zeroblob(100000)), '0', 'b') || 'a'))"
)
# the driver of SQLite steps on before it gives a row away, so that one is kept back
BEGUN = "SELECT 'begun' AS a UNION ALL SELECT 'kept back' UNION ALL SELECT * FROM ({})"
LIMIT = 60
AT_ONCE = 3.0
"""Twice and more what it may take: the machine that runs this is busy."""


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as conn:
        yield conn


def signal_once_it_runs(conn: sqlite3.Connection, number: int) -> str:
    """Return SQL without end; once it is under way this process gets the signal."""
    running = threading.Event()

    def send() -> None:
        assert running.wait(LIMIT)
        os.kill(os.getpid(), number)

    conn.create_function("under_way", 1, lambda _: running.set())
    threading.Thread(target=send, daemon=True).start()
    return ENDLESS.replace("max(i)", "max(CASE i WHEN 1000 THEN under_way(i) END)")


def test_ctrl_c_ends_a_step_and_the_handlers_are_given_back(conn: sqlite3.Connection) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    sql = signal_once_it_runs(conn, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible(conn):
        conn.execute(sql)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_the_end_of_the_time_ends_a_step(conn: sqlite3.Connection) -> None:
    with (
        pytest.raises(Interrupted, match=r"^stopped after 0.05 s; --timeout"),
        interruptible(conn, 0.05),
    ):
        conn.execute(ENDLESS)
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_the_end_of_the_time_ends_what_waits_for_its_reader(conn: sqlite3.Connection) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(Interrupted), interruptible(conn, 0.05):
            os.write(writing, b"x" * (1 << 24))
    finally:
        os.close(reading)
        os.close(writing)


def test_a_block_that_is_done_in_time_is_left_alone(conn: sqlite3.Connection) -> None:
    with interruptible(conn, 30):
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_where_ctrl_c_is_ignored_it_stays_so(conn: sqlite3.Connection) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible(conn):
            os.kill(os.getpid(), signal.SIGINT)
            assert conn.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(Interrupted), interruptible(conn, 0.05):
            conn.execute(ENDLESS)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_than_the_main_one_is_left_alone(conn: sqlite3.Connection) -> None:
    found: list[object] = []

    def read() -> None:
        with interruptible(conn, 0.001):
            found.append(conn.execute("SELECT 1").fetchone())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(LIMIT)
    assert found == [(1,)]


class Running:
    """A command on a terminal of its own, for its output is in no buffer there."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", MAIN, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")},
            # whoever runs the tests in the background has Ctrl-C ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(theirs)

    def read_until(self, text: bytes) -> None:
        printed = b""
        while text not in printed:
            assert select.select([self._terminal], [], [], LIMIT)[0], printed
            printed += os.read(self._terminal, 1000)

    def work_for(self, seconds: float) -> None:
        """Wait until it has taken so much time of the processor from now on."""
        process, deadline = psutil.Process(self.process.pid), time.monotonic() + LIMIT
        enough = process.cpu_times().user + seconds
        while process.cpu_times().user < enough:
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)

    def interrupted(self) -> tuple[int, float]:
        """Send Ctrl-C; return the exit code, and the seconds that its end took."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(LIMIT), time.monotonic() - begin
        finally:
            self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT)
        os.close(self._terminal)


@pytest.mark.parametrize("form", ["--csv", "--json"])
@pytest.mark.parametrize("endless", [ENDLESS, STUBBORN], ids=["endless", "stubborn"])
def test_ctrl_c_ends_a_query_in_the_middle_of_a_step(night: Path, form: str, endless: str) -> None:
    running = Running(night, "query", form, BEGUN.format(endless))
    running.read_until(b"begun")
    running.work_for(0.3)
    code, seconds = running.interrupted()
    assert code == 130
    assert seconds < AT_ONCE


def test_ctrl_c_ends_a_query_for_a_table_before_its_first_row(night: Path) -> None:
    running = Running(night, "query", ENDLESS)
    # more than it takes to begin
    running.work_for(3.0)
    code, seconds = running.interrupted()
    assert code == 130
    assert seconds < AT_ONCE


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)])
@pytest.mark.parametrize("sql", [ENDLESS, STUBBORN], ids=["endless", "stubborn"])
def test_a_query_ends_when_its_time_is_over(night: Path, form: tuple[str, ...], sql: str) -> None:
    done = mh_batch_process(night, "query", "--timeout", "0.5", *form, sql, code=1, timeout=LIMIT)
    assert done.stderr == "mh-batch: stopped after 0.5 s; --timeout gives it more\n"


def test_rows_that_came_before_the_end_of_the_time_are_there(night: Path) -> None:
    sql = BEGUN.format(ENDLESS)
    done = mh_batch_process(night, "query", "--timeout", "1", "--csv", sql, code=1, timeout=LIMIT)
    assert done.stdout == "a\nbegun\n"


def test_a_query_that_is_quick_enough_is_answered(night: Path) -> None:
    done = mh_batch_process(
        night, "query", "--timeout", "60", "--csv", "select count(*) as n from batches"
    )
    assert done.stdout == "n\n2\n"
