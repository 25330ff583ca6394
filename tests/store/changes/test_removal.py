"""Deleting batches: every row of them, no row of others, and what a killed deletion leaves."""

import pytest
from sqlite_utils import Database

from helpers.store_samples import attempt, claim, finish_next, lines, start, submit, turn
from mh_batch.jobs.errors import InputError, UnknownTarget, WorkerRunning
from mh_batch.jobs.jsonl.line_settings import UNCHECKED
from mh_batch.jobs.record import AttemptKey, Crash, JobEnd, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import deletion, queue
from mh_batch.store.changes import removal, retry_settings
from mh_batch.store.changes.removal import Extent, delete, extent, space, vacuum
from mh_batch.store.connection import immediate, location, open_store
from mh_batch.store.lock import worker_lock
from mh_batch.store.lookup import find_batch, find_target
from mh_batch.store.queue.submit import purge_abandoned
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.server.batches import BatchRef, find_api_batch, request_cancel


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "CHUNK", 2)
    monkeypatch.setattr(deletion, "BARE_CHUNK", 3)


def rows(db: Database) -> dict[str, int]:
    """How many rows each table has that holds anything of a batch."""
    # what a client of the server was told of keeps its number
    apart = ("sqlite_", "_sqlite_", "runs", "selftests", "deletions", "files", "api_batches")
    names = [name for name in db.table_names() if not name.startswith(apart)]
    return {name: db.table(name).count for name in names}


def fill(db: Database) -> None:
    """Record something in every table for the batch `night`: five jobs, one tried again."""
    submit(db, lines(5))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(verdict=Verdict.RETRY), None, None)
    queue.record_crash(db, job.id, run_id, Crash(AttemptKey(attempt=2), "decode", 9, None, ""))
    second = AttemptKey(attempt=2)
    queue.record(db, job.id, run_id, attempt(second), turn(second), None)
    for _ in range(3):
        finish_next(db, run_id)
    last = claim(db, run_id)
    queue.finish(db, last.id, JobEnd(Status.FAILED, "model_crashed", "it died"))
    queue.release(db, job.id)
    request_cancel(db, BatchRef(False, find_batch(db, "night").id))
    values = retry_settings.typed({"max_tokens": 9})
    again = [find_target(db, str(last.id))]
    assert retry_settings.retry(db, again, {Status.FAILED}, values, UNCHECKED) == [1]


def test_everything_of_a_batch_goes_and_nothing_of_another(db: Database) -> None:
    submit(db, lines(2), "other")
    run_id = start(db)
    finish_next(db, run_id)
    finish_next(db, run_id)
    kept = rows(db)
    fill(db)
    assert all(rows(db).values())
    night = find_batch(db, "night")
    assert extent(db, night) == Extent(jobs=5, queued=2, attempts=5)
    delete(db, night)
    assert rows(db) == kept
    assert [report.name for report in batch_reports(db, None)] == ["other"]
    assert find_api_batch(db, BatchRef(False, night.id)) is None
    assert db.execute("pragma foreign_key_check").fetchall() == []


def test_a_batch_of_which_a_job_runs_is_not_deleted(db: Database) -> None:
    submit(db, lines(2))
    claim(db, start(db))
    before = rows(db)
    with pytest.raises(InputError, match=r"1 of its jobs are running; `mh-batch cancel 1` first"):
        delete(db, find_batch(db, "night"))
    assert rows(db) == before


def test_a_batch_that_somebody_else_has_deleted_is_told(db: Database) -> None:
    submit(db, lines(1))
    night = find_batch(db, "night")
    delete(db, night)
    with pytest.raises(UnknownTarget, match=r"batch 1 \(night\): is deleted already"):
        delete(db, night)


def test_what_a_killed_deletion_leaves_is_seen_by_nobody_and_deleted_later(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "delete_batch", die)
    with pytest.raises(KeyboardInterrupt):
        delete(db, find_batch(db, "night"))
    assert batch_reports(db, None, archived=True) == []
    assert queue.next_model(db, "demo", None) is None
    assert purge_abandoned(db) == 1
    assert not any(rows(db).values())


def test_nobody_deletes_what_is_being_deleted(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(db, lines(1))
    seen = []

    def look(*_: object) -> None:
        other = open_store(location(db))
        seen.append(purge_abandoned(other))
        other.close()

    monkeypatch.setattr(removal, "delete_batch", look)
    delete(db, find_batch(db, "night"))
    assert seen == [0]


def test_a_vacuum_gives_back_what_a_deletion_has_freed(db: Database) -> None:
    with immediate(db):
        db.execute("create table ballast (x blob) strict")
        db.execute("insert into ballast values (zeroblob(2000000))")
        db.execute("drop table ballast")
    before = space(db)
    assert before.free >= 2_000_000
    vacuum(db)
    after = space(db)
    assert (after.free, after.size) == (0, location(db).stat().st_size)
    assert after.size <= before.size - 2_000_000
    assert db.execute("pragma busy_timeout").fetchone()[0] == 30_000


def test_a_vacuum_waits_for_no_worker(db: Database) -> None:
    with worker_lock(location(db)), pytest.raises(WorkerRunning):
        vacuum(db)


def test_the_numbers_of_what_was_deleted_are_not_given_again(db: Database) -> None:
    submit(db, lines(2), "first")
    submit(db, lines(3), "second")
    delete(db, find_batch(db, "second"))
    assert submit(db, lines(1), "third") == 3
    assert [row[0] for row in db.execute("select id from jobs order by id")] == [1, 2, 6]
    delete(db, find_batch(db, "first"))
    assert submit(db, lines(1), "fourth") == 4
    assert [row[0] for row in db.execute("select id from jobs order by id")] == [6, 7]
    assert [tuple(row)[:4] for row in db.execute("select * from deletions")] == [
        (1, "first", 2, 2),
        (2, "second", 3, 5),
    ]
