"""How batches end: expired, cancelled, measured, and begun anew by a retry."""

from contextlib import closing

import pytest
from sqlite_utils import Database

from helpers.store_samples import finish_next, lines, start, submit
from mh_batch.jobs.errors import WorkerRunning
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.connection import location
from mh_batch.store.lookup import Target
from mh_batch.store.queue.cancel_retry import cancel, retry
from mh_batch.store.server.batches import BatchRef, find_api_batch, request_cancel
from mh_batch.store.server.endings import (
    Sizes,
    expire,
    finished_after,
    forget_reopened,
    has_expired,
    next_ended,
    record_end,
    to_cancel,
)
from mh_batch.store.server.server_lock import server_lock

from .test_batches import CREATED, EXPIRES, create, find, queue_it

LATER = "2026-05-02T01:00:00.001Z"
FAILED = JobEnd(Status.FAILED, "prompt_too_long", "too long")


def cancel_all(db: Database) -> None:
    for batch_id in to_cancel(db):
        cancel(db, Target(batch_id, None, "batch"))


def measure(db: Database) -> None:
    while (ended := next_ended(db)) is not None:
        record_end(db, ended, Sizes(output=10, errors=20, ended_at=LATER))


def test_a_batch_expires_only_after_its_time_and_only_once(db: Database) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref)
    assert expire(db, CREATED, "[]") == []
    assert expire(db, LATER, "[]") == [batch_id]
    assert expire(db, LATER, "[]") == []
    assert to_cancel(db) == [batch_id]
    assert has_expired(db, batch_id)
    cancel_all(db)
    assert to_cancel(db) == []
    assert find(db, ref).counts[Status.CANCELLED] == 2


def test_what_was_done_before_the_time_was_over_is_kept(db: Database) -> None:
    ref = create(db)
    queue_it(db, ref, jobs=3)
    finish_next(db, start(db))
    expire(db, LATER, "[]")
    cancel_all(db)
    measure(db)
    batch = find(db, ref)
    assert (batch.count(Status.DONE), batch.count(Status.CANCELLED)) == (1, 2)
    assert (batch.expired_at, batch.ended_at) == (LATER, LATER)
    assert batch.output_file is not None


def test_a_batch_that_ended_in_time_does_not_expire(db: Database) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref, jobs=1)
    finish_next(db, start(db))
    assert expire(db, LATER, "[]") == []
    assert not has_expired(db, batch_id)


def test_a_batch_that_is_not_queued_in_time_fails(db: Database) -> None:
    ref = create(db)
    expire(db, EXPIRES, '[{"code": "batch_expired"}]')
    assert find(db, ref).failed_at == EXPIRES


def test_an_ended_batch_is_measured_once_and_again_after_more_attempts(db: Database) -> None:
    batch_id = submit(db, lines(2))
    ref = BatchRef(False, batch_id)
    run_id = start(db)
    finish_next(db, run_id)
    assert next_ended(db) is None
    finish_next(db, run_id, FAILED)
    ended = next_ended(db)
    assert ended is not None
    assert (ended.batch_id, ended.attempts) == (batch_id, 2)
    measure(db)
    first = find(db, ref)
    assert (first.ended_at, first.output_file, first.error_file) == (LATER, 1, 2)
    retry(db, Target(batch_id, None, "batch"))
    # an end that was measured before is none any more
    record_end(db, ended, Sizes(output=99))
    assert forget_reopened(db) == [batch_id]
    assert find(db, ref).ended_at is None
    assert next_ended(db) is None


def test_a_retry_lifts_a_cancel_and_the_time_of_a_batch(db: Database) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref)
    request_cancel(db, ref)
    cancel_all(db)
    measure(db)
    assert forget_reopened(db) == []
    retry(db, Target(batch_id, None, "batch"))
    assert forget_reopened(db) == [batch_id]
    assert (to_cancel(db), expire(db, LATER, "[]")) == ([], [])
    assert find(db, ref).cancelling_at is None


def test_the_finished_jobs_behind_a_position_come_in_order(db: Database) -> None:
    batch_id = submit(db, lines(4))
    run_id = start(db)
    for end in (JobEnd(Status.DONE), FAILED, JobEnd(Status.DONE)):
        finish_next(db, run_id, end)
    with closing(finished_after(db, batch_id, sorted(FINISHED), 1)) as jobs:
        assert [job.position for job in jobs] == [2, 3]
    with closing(finished_after(db, batch_id, [Status.DONE], -1)) as jobs:
        assert next(jobs).position == 1
        assert db.conn.in_transaction
    # whoever stops early leaves no snapshot behind
    assert not db.conn.in_transaction


def test_the_end_of_a_batch_goes_with_its_row(db: Database) -> None:
    batch_id = submit(db, lines(1))
    finish_next(db, start(db))
    measure(db)
    for table in ("channels", "parses", "timings", "turns", "attempts", "jobs", "batch_models"):
        db.conn.execute(f"DELETE FROM {table}")
    db.conn.execute("DELETE FROM batches")
    assert find_api_batch(db, BatchRef(False, batch_id)) is None
    assert db.conn.execute("SELECT count(*) FROM batch_ends").fetchone()[0] == 0


def test_one_server_at_a_time_is_at_a_database(db: Database) -> None:
    path = location(db)
    with server_lock(path), pytest.raises(WorkerRunning, match="serve"), server_lock(path):
        pass
    with server_lock(path):
        pass
