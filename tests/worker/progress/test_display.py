"""What a person sees while a drain runs."""

import io
import os
import time
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from helpers.made import claimed
from helpers.store_samples import claim, finish_next, lines, start, submit
from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import AttemptKey, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store.connection import open_store
from mh_batch.store.lock import worker_lock
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.progress.display import LiveDisplay
from mh_batch.worker.progress.live_region import LiveRegion
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.progress.poller import Poller
from mh_batch.worker.progress.status_watch import NO_WORKER, snapshots, watch_batch
from mh_batch.worker.runtime.worker_pid import worker_pid

DONE = JobEnd(Status.DONE)
FAILED = JobEnd(Status.FAILED, "prompt_too_long", "9 tokens do not fit into 5")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a batch of four jobs, of which one is done and one failed."""
    path = tmp_path / "mh-batch.db"
    with closing(open_store(path)) as db:
        submit(db, lines(4))
        run = start(db)
        finish_next(db, run)
        finish_next(db, run, FAILED)
    return path


def test_plain_lines_tell_of_what_went_wrong_and_of_the_end(path: Path) -> None:
    out = io.StringIO()
    with closing(open_store(path)) as db, PlainDisplay(out, path) as display:
        display.note("loading demo")
        display.job_ended(claimed(), FAILED, Tally(), 1)
        run = start(db)
        finish_next(db, run)
        finish_next(db, run)
        display.job_ended(claimed(), DONE, Tally(), 0)
    # the jobs of earlier runs are counted as well
    assert out.getvalue().splitlines() == [
        "loading demo",
        "c: failed (prompt_too_long): 9 tokens do not fit into 5",
        "4/4 jobs, 1 failed or incomplete, 4 tok/s now",
    ]


def test_plain_lines_without_a_database_are_notes_alone() -> None:
    out = io.StringIO()
    with PlainDisplay(out) as display:
        display.job_ended(claimed(), FAILED, Tally(), 0)
    assert out.getvalue() == "c: failed (prompt_too_long): 9 tokens do not fit into 5\n"


def test_a_live_display_leaves_the_notes_and_the_bars_behind(path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=20)
    with LiveDisplay(console, path) as display:
        display.note("loading demo")
        display.attempt_started(claimed(), AttemptKey(turn=2, attempt=3))
        display.tokens(claimed(), AttemptKey(turn=2, attempt=3), 17)
        display.attempt_ended(claimed(), AttemptKey(turn=2, attempt=3))
        display.job_ended(claimed(), FAILED, Tally({Status.FAILED: 1}), 3)
    text = Text.from_ansi(out.getvalue()).plain
    assert "loading demo" in text
    assert "c: failed (prompt_too_long)" in text
    bar, so_far = text.strip().splitlines()[-2:]
    assert bar.startswith("night")
    assert "2/4" in bar
    assert so_far == "so far   2 finished, 0 retries, 1 failed or incomplete"


def test_a_live_display_outlives_its_terminal_and_its_database(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError("the terminal went away")

    console = Console(file=Gone(), force_terminal=True, width=100)
    with LiveDisplay(console, tmp_path / "nowhere.db") as display:
        display.note("x")
        display.attempt_started(claimed(), AttemptKey())
        display.tokens(claimed(), AttemptKey(), 1)


class Terminal(Console):
    """A console whose size a test sets."""

    def __init__(self, out: io.StringIO) -> None:
        super().__init__(file=out, force_terminal=True, height=20)
        self.cells = 80

    @property
    def width(self) -> int:
        return self.cells

    @width.setter
    def width(self, width: int) -> None:
        self.cells = width


def test_lines_that_a_narrower_terminal_folded_are_taken_back() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    screen = LiveRegion(terminal)
    screen.open()
    screen.show([Text("x" * 75), Text("y" * 10)])
    out.seek(0)
    out.truncate()
    screen.show([Text("x" * 75), Text("y" * 10)])
    up_before = out.getvalue().count("\x1b[1A")
    out.seek(0)
    out.truncate()
    terminal.cells = 30
    screen.show([Text("x" * 30), Text("y" * 10)])
    # 75 cells are three rows of 30: two more than were written
    assert out.getvalue().count("\x1b[1A") == up_before + 2
    screen.close()


def test_an_observer_looks_again_only_when_something_changed(path: Path) -> None:
    poller = Poller(path)
    with closing(poller), closing(open_store(path)) as db:
        assert poller.poll(whole=True)
        assert not poller.poll()
        assert (poller.snapshot.waiting, poller.snapshot.finished) == (2, 2)
        job = claim(db, start(db))
        assert poller.poll()
        assert [one.custom_id for one in poller.snapshot.attempting] == [job.custom_id]


def test_a_batch_that_is_over_stays_in_view_behind_those_that_are_not(path: Path) -> None:
    poller = Poller(path)
    with closing(poller), closing(open_store(path)) as db:
        poller.poll(whole=True)
        run = start(db)
        finish_next(db, run)
        finish_next(db, run)
        submit(db, lines(1), "next")
        poller.poll(whole=True)
        assert [b.name for b in poller.snapshot.batches] == ["next", "night"]


def test_of_a_queue_that_is_empty_the_last_batch_is_shown(path: Path) -> None:
    with closing(open_store(path)) as db:
        run = start(db)
        finish_next(db, run)
        finish_next(db, run)
    poller = Poller(path)
    with closing(poller):
        poller.poll()
        assert [b.name for b in poller.snapshot.batches] == ["night"]


def test_no_database_is_told_to_whoever_looks(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no database"):
        Poller(tmp_path / "nowhere.db").poll()


def test_without_a_worker_nothing_is_said_to_be_running(path: Path) -> None:
    with closing(open_store(path)) as db:
        claim(db, start(db))
    poller = Poller(path)
    with closing(poller):
        found = next(snapshots(poller, path, alone=False))
    assert found.attempting == ()
    assert found.remark == NO_WORKER
    assert found.waiting == 2


def test_watching_ends_when_nothing_waits_and_no_worker_is_there(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_store(path)) as db:
        run = start(db)
        finish_next(db, run)
        finish_next(db, run)
    watch_batch(path, None)
    watch_batch(path, "night")
    assert capsys.readouterr().out.splitlines() == ["4/4 jobs, 1 failed or incomplete"] * 2


def test_whoever_ends_watching_is_told_that_the_worker_goes_on(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    watch_batch(path, None)
    with worker_lock(path):
        watch_batch(path, None)
    assert capsys.readouterr().err.split("\n") == [
        "", "stopped watching", "", "stopped watching; the worker goes on", ""
    ]  # fmt: skip


def test_a_worker_is_seen_by_the_lock_it_holds_and_not_by_a_pid_that_was_left(
    path: Path,
) -> None:
    lock = path.with_name(path.name + ".lock")
    assert worker_pid(path) is None
    lock.write_text(str(os.getpid()))
    assert worker_pid(path) is None  # alive, but not at this file
    with lock.open():
        assert worker_pid(path) == os.getpid()
    lock.write_text("999999999")
    assert worker_pid(path) is None
