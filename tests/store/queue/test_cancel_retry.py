"""Cancel and retry: what they change, and what they leave alone."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlite_utils import Database

from helpers.store_samples import attempt, claim, finish_next, line, lines, start, submit, turn
from mh_batch.jobs.errors import InputError, UnknownTarget
from mh_batch.jobs.record import AttemptKey, Crash, JobEnd, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import immediate, location
from mh_batch.store.lock import worker_lock
from mh_batch.store.lookup import find_target
from mh_batch.store.queue import cancel_retry
from mh_batch.store.queue.cancel_retry import Cancelled, cancel, retry

FAILED = JobEnd(Status.FAILED, "model_crashed", "it died")
INCOMPLETE = JobEnd(Status.INCOMPLETE, "length", "ran out")


def statuses(db: Database) -> list[str]:
    return [row[0] for row in db.conn.execute("select status from jobs order by id")]


def test_a_batch_goes_by_number_or_name_and_a_job_by_number_custom_id_or_both(
    db: Database,
) -> None:
    submit(db, lines(3), "first")
    submit(db, lines(3), "second")
    named = {
        "2": (2, None),
        "first": (1, None),
        "5": (2, 5),
        "line-1": (2, 4),
        "first/line-1": (1, 1),
        "1/2": (1, 2),
    }
    for ref, expected in named.items():
        target = find_target(db, ref)
        assert (target.batch_id, target.job_id) == expected, ref
    assert find_target(db, "1/2").label == "job 2 (first/line-2)"
    for unknown in ("third", "1/5", "third/line-1", "17", "", "/"):
        with pytest.raises(UnknownTarget, match="BATCH/JOB"):
            find_target(db, unknown)


def test_within_a_batch_a_custom_id_that_is_a_number_goes_before_a_jobs_number(
    db: Database,
) -> None:
    submit(db, [line(1, "2"), line(2, "1")], "numbers")
    found = find_target(db, "numbers/2")
    assert (found.job_id, found.label) == (1, "job 1 (numbers/2)")
    assert find_target(db, found.label.removeprefix("job 1 (").rstrip(")")) == found


def test_a_name_that_is_a_batch_and_a_job_is_refused(db: Database) -> None:
    submit(db, lines(2), "line-1")
    with pytest.raises(InputError, match="1 for the batch, 1/line-1 for the job"):
        find_target(db, "line-1")
    assert find_target(db, "1/line-1").job_id == 1


def test_what_is_queued_is_cancelled_in_as_many_transactions_as_it_takes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_retry, "CHUNK", 2)
    submit(db, lines(5))
    submit(db, lines(1), "other")
    finish_next(db, start(db))
    assert cancel(db, find_target(db, "night")) == Cancelled(4, 0)
    assert statuses(db) == ["done", *["cancelled"] * 4, "queued"]
    assert db.execute("select count(finished_at) from jobs").fetchone()[0] == 5
    assert cancel(db, find_target(db, "night")) == Cancelled(0, 0)


def test_what_runs_is_asked_for_while_a_worker_lives_and_cancelled_where_none_does(
    db: Database,
) -> None:
    submit(db, lines(2))
    job = claim(db, start(db))
    with worker_lock(location(db)):
        assert cancel(db, find_target(db, "line-1")) == Cancelled(0, 1)
        assert queue.cancel_requests(db) == {job.id}
        assert statuses(db) == ["running", "queued"]
    assert cancel(db, find_target(db, "night")) == Cancelled(2, 0)
    assert statuses(db) == ["cancelled", "cancelled"]
    assert queue.cancel_requests(db) == frozenset()


def test_a_request_is_over_with_its_job(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    job = claim(db, run_id)
    with worker_lock(location(db)):
        cancel(db, find_target(db, "night"))
    queue.finish(db, job.id, JobEnd(Status.CANCELLED))
    assert db.execute("select sum(cancel_requested) from jobs").fetchone()[0] == 0


def test_others_writes_change_the_data_version_and_ones_own_do_not(db: Database) -> None:
    submit(db, lines(1))
    before = queue.data_version(db)
    start(db)
    assert queue.data_version(db) == before
    other = sqlite3.connect(location(db))
    other.execute("update jobs set priority = 1")
    other.commit()
    other.close()
    assert queue.data_version(db) != before


def test_a_retry_keeps_attempts_and_complete_turns_and_counts_another_round(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    second, third = AttemptKey(turn=2), AttemptKey(turn=3)
    other = AttemptKey(choice=1)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    queue.record(db, job.id, run_id, attempt(second, Verdict.GIVE_UP), turn(second, False), None)
    queue.record(db, job.id, run_id, attempt(third), turn(third), None)
    queue.record(db, job.id, run_id, attempt(other), turn(other), INCOMPLETE)
    assert retry(db, find_target(db, "night")) == 1
    kept = queue.read_history(db, job.id)
    assert [t.key for t in kept.turns] == [AttemptKey(), other]
    assert [a.key for a in kept.attempts] == [AttemptKey(), second, third, other]
    again = claim(db, run_id)
    assert (again.id, again.round) == (job.id, 1)
    row = db.execute("select error_code, error, finished_at from jobs").fetchone()
    assert tuple(row) == (None, None, None)
    assert db.execute("select attempts from batches").fetchone()[0] == 4


def test_a_retry_takes_the_statuses_it_was_given_and_never_what_is_done(db: Database) -> None:
    submit(db, lines(5))
    run_id = start(db)
    finish_next(db, run_id)
    for end in (FAILED, INCOMPLETE):
        queue.finish(db, claim(db, run_id).id, end)
    cancel(db, find_target(db, "line-4"))
    before = ["done", "failed", "incomplete", "cancelled", "queued"]
    assert statuses(db) == before
    target = find_target(db, "night")
    assert retry(db, target, {Status.FAILED}) == 1
    assert statuses(db) == ["done", "queued", *before[2:]]
    assert retry(db, target) == 2
    assert statuses(db) == ["done", *["queued"] * 4]
    assert retry(db, find_target(db, "line-1")) == 0


def test_after_a_retry_the_deaths_before_it_count_no_more(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    crash = Crash(AttemptKey(), "decode", 9, None, "")
    queue.record_crash(db, job.id, run_id, crash)
    queue.record_crash(db, job.id, run_id, Crash(AttemptKey(), "decode", 9, None, "", alone=False))
    queue.finish(db, job.id, FAILED)
    retry(db, find_target(db, "night"))
    claim(db, run_id)
    assert queue.crashes_on(db, job.id, AttemptKey()) == 0
    assert queue.shared_crashes_on(db, job.id, AttemptKey()) == 0
    queue.record_crash(db, job.id, run_id, crash)
    assert queue.crashes_on(db, job.id, AttemptKey()) == 1


def test_jobs_put_back_through_no_fault_of_theirs_are_in_the_same_round(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    failed, running = claim(db, run_id), claim(db, run_id)
    queue.record_crash(db, failed.id, run_id, Crash(AttemptKey(), "decode", 9, None, ""))
    queue.finish(db, failed.id, FAILED)
    assert queue.requeue(db, (failed.id, running.id)) == 2
    assert statuses(db) == ["queued"] * 3
    assert claim(db, run_id).round == 0
    assert queue.crashes_on(db, failed.id, AttemptKey()) == 0


def test_what_somebody_else_moved_is_not_put_back_and_not_counted(db: Database) -> None:
    submit(db, lines(4))
    run_id = start(db)
    jobs = [claim(db, run_id) for _ in range(3)]
    for job in jobs[:2]:
        queue.finish(db, job.id, FAILED)
    retry(db, find_target(db, "line-1"))
    assert queue.requeue(db, (1, 2, 2, 4)) == 1
    assert statuses(db) == ["queued", "queued", "running", "queued"]
    assert [row[0] for row in db.conn.execute("select round from jobs order by id")] == [1, 0, 0, 0]


@pytest.mark.parametrize("put_back", ["release", "requeue", "recover"])
def test_a_job_that_goes_back_to_the_queue_does_not_lose_the_request_to_cancel_it(
    db: Database, put_back: str
) -> None:
    submit(db, lines(3))
    run_id = start(db)
    wanted, other = claim(db, run_id), claim(db, run_id)
    with worker_lock(location(db)):
        assert cancel(db, find_target(db, "line-1")) == Cancelled(0, 1)
    match put_back:
        case "release":
            assert queue.release(db, wanted.id) is Status.CANCELLED
            assert queue.release(db, other.id) is Status.QUEUED
        case "requeue":
            assert queue.requeue(db, (wanted.id, other.id)) == 1
        case "recover":
            assert queue.recover(db) == 1
    assert statuses(db) == ["cancelled", "queued", "queued"]
    row = db.execute("select finished_at is not null, cancel_requested from jobs").fetchone()
    assert tuple(row) == (1, 0)


def test_a_retry_queues_each_job_once_while_a_worker_fails_them_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(db, lines(3))
    run_id = start(db)
    for _ in range(3):
        queue.finish(db, claim(db, run_id).id, FAILED)
    ends = iter([FAILED, INCOMPLETE, FAILED])

    @contextmanager
    def worker_in_between(db: Database) -> Iterator[None]:
        with immediate(db):
            yield
        if (end := next(ends, None)) is not None:
            queue.finish(db, claim(db, run_id).id, end)

    monkeypatch.setattr(cancel_retry, "CHUNK", 1)
    monkeypatch.setattr(cancel_retry, "immediate", worker_in_between)
    assert retry(db, find_target(db, "night")) == 3
    assert [row[0] for row in db.conn.execute("select round from jobs")] == [1, 1, 1]


def test_what_is_asked_of_a_long_queue_is_found_by_an_index(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    queue.finish(db, claim(db, run_id).id, FAILED)
    claim(db, run_id)
    seen: set[str] = set()
    db.conn.set_trace_callback(seen.add)
    queue.cancel_requests(db)
    for ref in ("night", "line-1"):
        with worker_lock(location(db)):
            cancel(db, find_target(db, ref))
        cancel(db, find_target(db, ref))
        retry(db, find_target(db, ref))
    db.conn.set_trace_callback(None)
    steps = [
        (row[3], sql)
        for sql in seen
        if sql.lstrip().startswith(("SELECT id FROM jobs", "UPDATE", "DELETE"))
        for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}")
    ]
    assert len(steps) > 10
    for step, sql in steps:
        # the index of what runs holds a row or two
        assert not step.startswith("SCAN") or "jobs_running" in step, f"{step}\n{sql}"
