"""What people ask of jobs that are there: to cancel them, or to try them again."""

from array import array
from collections.abc import Collection, Iterable

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import WorkerRunning
from mh_batch.jobs.status import RETRYABLE, Status, check_move
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, location, snapshot
from mh_batch.store.lock import worker_lock
from mh_batch.store.lookup import Target

from .recording import cancel_if_asked

CHUNK = 10_000
"""How many jobs change in one transaction, so that a worker never waits long for its turn."""

_CANCEL_QUEUED = """
UPDATE jobs SET status = 'cancelled', finished_at = ?1
WHERE id IN (SELECT id FROM jobs WHERE {target} = ?2 AND status = 'queued' LIMIT ?3)
"""
_CANCEL_RUNNING = """
UPDATE jobs SET status = 'cancelled', finished_at = ?1, cancel_requested = 0
WHERE {target} = ?2 AND status = 'running'
"""
_ASK_RUNNING = "UPDATE jobs SET cancel_requested = 1 WHERE {target} = ? AND status = 'running'"
_RUNNING = "SELECT count(*) FROM jobs WHERE {target} = ? AND status = 'running'"
_REQUESTS = "SELECT id FROM jobs WHERE status = 'running' AND cancel_requested = 1"
_CHOSEN = "SELECT id FROM jobs WHERE {target} = ? AND status = ?"
_PUT_BACK = frozenset({Status.FAILED, Status.RUNNING})
_FORGIVE = "UPDATE crashes SET forgiven = 1 WHERE job_id = ?"
_STATUS = "SELECT status FROM jobs WHERE id = ?"
_REQUEUE = """
UPDATE jobs
SET status = 'queued', round = round + ?, run_id = NULL, cancel_requested = 0,
    error_code = NULL, error = NULL, started_at = NULL, finished_at = NULL
WHERE id = ?
"""
# Of each choice the first answer that was not complete, and all that was built on it.
_FORGET_TURNS = """
DELETE FROM turns
WHERE job_id = ?1 AND (choice, turn, step) IN (
    SELECT later.choice, later.turn, later.step
    FROM turns AS later JOIN turns AS bad
        ON bad.job_id = later.job_id AND bad.choice = later.choice
        AND (bad.turn, bad.step) <= (later.turn, later.step)
    WHERE later.job_id = ?1 AND NOT bad.complete
)
"""


class Cancelled(msgspec.Struct, frozen=True):
    """How many jobs are cancelled, and how many more the worker has been asked to end."""

    at_once: int
    asked: int


def cancel(db: Database, target: Target) -> Cancelled:
    """Cancel what is queued of a target, and have what is running ended.

    A running job ends by its worker's hand, within a second or so; one that a dead worker left
    ends at once.
    """
    check_move(Status.QUEUED, Status.CANCELLED)
    check_move(Status.RUNNING, Status.CANCELLED)
    at_once = 0
    while changed := _change(db, target, _CANCEL_QUEUED, now(), _id(target), CHUNK):
        at_once += changed
    if not db.conn.execute(_sql(target, _RUNNING), (_id(target),)).fetchone()[0]:
        return Cancelled(at_once, 0)
    try:
        # whoever gets the lock knows that no worker has these jobs
        with worker_lock(location(db)):
            at_once += _change(db, target, _CANCEL_RUNNING, now(), _id(target))
    except WorkerRunning:
        # one that dies before it looks leaves the request to the next worker
        return Cancelled(at_once, _change(db, target, _ASK_RUNNING, _id(target)))
    return Cancelled(at_once, 0)


def cancel_requests(db: Database) -> frozenset[int]:
    """Return the running jobs that somebody wants ended."""
    return frozenset(row[0] for row in db.conn.execute(_REQUESTS))


def data_version(db: Database) -> int:
    """Return a number that changes whenever another connection has written; reads no table.

    Raises `StoreUnusable` if the file is gone.
    """
    with snapshot(db):
        return int(db.conn.execute("PRAGMA data_version").fetchone()[0])


def retry(db: Database, target: Target, statuses: Collection[Status] = RETRYABLE) -> int:
    """Queue the jobs of a target that ended in one of `statuses` again; return how many.

    Their attempts stay and are counted on; answers that were complete stay too. Each is queued
    once, also if a worker ends it badly again meanwhile.
    """
    for status in statuses:
        check_move(status, Status.QUEUED)
    chosen = _chosen(db, target, statuses)
    return sum(
        _retry(db, chosen[start : start + CHUNK], statuses)
        for start in range(0, len(chosen), CHUNK)
    )


def requeue(db: Database, job_ids: Iterable[int]) -> int:
    """Queue jobs again that run, or failed through no fault of their own, as they stand.

    Nobody counts the deaths of the model against them any more. Returns how many were put back:
    not those that somebody queued or cancelled meanwhile, nor one that runs and is to be
    cancelled, which ends so.
    """
    count = 0
    with immediate(db):
        for job_id in set(job_ids):
            if _status(db, job_id) not in _PUT_BACK or cancel_if_asked(db, job_id):
                continue
            _requeue(db, job_id, rounds=0)
            count += 1
    return count


def _retry(db: Database, job_ids: Iterable[int], statuses: Collection[Status]) -> int:
    """Queue those of the jobs again that still are in one of `statuses`; return how many."""
    with immediate(db):
        # somebody else may have queued or claimed some of them meanwhile
        again = [job_id for job_id in job_ids if _status(db, job_id) in statuses]
        for job_id in again:
            db.conn.execute(_FORGET_TURNS, (job_id,))
            _requeue(db, job_id, rounds=1)
    return len(again)


def _requeue(db: Database, job_id: int, rounds: int) -> None:
    db.conn.execute(_FORGIVE, (job_id,))
    db.conn.execute(_REQUEUE, (rounds, job_id))


def _status(db: Database, job_id: int) -> Status:
    return Status(db.conn.execute(_STATUS, (job_id,)).fetchone()[0])


def _chosen(db: Database, target: Target, statuses: Collection[Status]) -> "array[int]":
    """Return the jobs of a target in one of `statuses`, packed: there may be a million."""
    sql = _sql(target, _CHOSEN)
    with snapshot(db):
        return array(
            "q",
            (
                row[0]
                for status in sorted(statuses)
                for row in db.conn.execute(sql, (_id(target), status.value))
            ),
        )


def _change(db: Database, target: Target, sql: str, *values: object) -> int:
    """Run a statement on a target in a transaction of its own; return how many jobs it changed."""
    with immediate(db):
        return int(db.conn.execute(_sql(target, sql), values).rowcount)


def _sql(target: Target, template: str) -> str:
    """Return the statement for one job or a whole batch, so that SQLite finds an index for it."""
    return template.format(target="batch_id" if target.job_id is None else "id")


def _id(target: Target) -> int:
    return target.batch_id if target.job_id is None else target.job_id
