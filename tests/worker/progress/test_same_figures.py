"""The displays, the table, its JSON and the report have the same figures at the same moment."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database
from typer.testing import CliRunner

from helpers.made import claimed
from helpers.store_samples import claim, finish_next, lines, start, submit
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store import queue
from mh_batch.store.connection import open_reader, open_store
from mh_batch.store.lock import worker_lock
from mh_batch.store.lookup import find_batch
from mh_batch.store.reports.batch_page import batch_page
from mh_batch.worker.cli import app
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.progress.poller import Poller
from mh_batch.worker.progress.status_watch import snapshots
from mh_batch.worker.runtime.worker_pid import worker_pid


class Counts(NamedTuple):
    """How many jobs are finished, on the model, and queued."""

    finished: int
    running: int
    queued: int


class Seen(NamedTuple):
    """The figures of one moment: the counts, tokens a second, and seconds left."""

    counts: Counts
    speed: float | None
    left: float | None


def seen(path: Path) -> Seen:
    """Return what all places say of a queue of one batch: the same."""
    found = watched(path)
    assert table(path) == found
    assert page(path) == found.counts
    if worker_pid(path) is not None:
        assert plain_line(path) == line_of(found)
    return found


def watched(path: Path) -> Seen:
    """What `status --watch` shows; `work` shows the same, but for the attempts that run."""
    poller = Poller(path)
    with closing(poller):
        shown = next(snapshots(poller, path, alone=False))
    running = len(shown.attempting)
    counts = Counts(shown.finished, running, shown.waiting - running)
    pace = shown.pace
    left = shown.waiting * pace.seconds / pace.jobs if pace.jobs >= 3 and shown.waiting else None
    return Seen(counts, shown.tokens_per_second, left)


def table(path: Path) -> Seen:
    """What `status` and `status --json` say."""
    (batch,) = json.loads(status(path, "--json"))
    said = batch["counts"]
    counts = Counts(sum(said[s] for s in FINISHED), said["running"], said["queued"])
    working = re.findall(r"a worker is running: (\d+) running, (\d+) queued", status(path))
    if worker_pid(path) is None:
        assert not working
    else:
        assert working == [(str(counts.running), str(counts.queued))]
    return Seen(counts, batch["tokens_per_second_now"], batch["seconds_left"])


def status(path: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["status", "--db", str(path), *options])
    assert done.exit_code == 0, done.exception
    return done.stdout


def page(path: Path) -> Counts:
    """What the page of `report` counts."""
    with closing(open_reader(path)) as db:
        working = worker_pid(path) is not None
        counts = batch_page(db, find_batch(db, "1"), working=working).report.counts
    finished = sum(counts[status] for status in FINISHED)
    return Counts(finished, counts[Status.RUNNING], counts[Status.QUEUED])


def plain_line(path: Path) -> tuple[str, ...]:
    """What `work` prints where its output is no terminal: jobs and speed."""
    out = io.StringIO()
    with PlainDisplay(out, path) as display:
        display.job_ended(claimed(), JobEnd(Status.DONE), Tally(), 0)
    return tuple(re.findall(r"\d+/\d+ jobs|\d+ tok/s now", out.getvalue()))


def line_of(found: Seen) -> tuple[str, ...]:
    jobs = f"{found.counts.finished}/{sum(found.counts)} jobs"
    return (jobs,) if found.speed is None else (jobs, f"{found.speed:.0f} tok/s now")


@contextmanager
def worker(path: Path) -> Iterator[tuple[Database, int]]:
    """A worker that has begun; it ends as one that is killed."""
    with worker_lock(path), closing(open_store(path)) as db:
        queue.recover(db)
        yield db, start(db)


def test_all_places_agree_through_a_stop_a_kill_and_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "mh-batch.db"
    with closing(open_store(path)) as db:
        submit(db, lines(12))
    assert seen(path) == (Counts(0, 0, 12), None, None)
    with worker(path) as (db, run):
        finish_next(db, run)
        finish_next(db, run)
        claim(db, run)
        claim(db, run)  # ahead: to a reader it is queued
        assert seen(path) == (Counts(2, 1, 9), 4.0, None)
    # killed: its jobs are queued to a reader, and nothing runs
    assert seen(path) == (Counts(2, 0, 10), None, None)
    with worker(path) as (db, run):
        # a restart forgets nothing that is finished; its pace is its own
        claim(db, run)
        assert seen(path) == (Counts(2, 1, 9), None, None)
        queue.recover(db)
        for _ in range(3):
            finish_next(db, run)
        claim(db, run)
        found = seen(path)
        assert found.counts == Counts(5, 1, 6)
        assert found.left is not None
        # stopped
        queue.recover(db)
        queue.finish_run(db, run, 3, "stopped")
    assert seen(path) == (Counts(5, 0, 7), None, None)
