"""Cancels jobs, and queues jobs again."""

from array import array
from collections.abc import Callable, Collection, Iterable

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import WorkerRunning
from mh_batch.jobs.status import RETRYABLE, Status, check_move
from mh_batch.store.connection import immediate, location, snapshot
from mh_batch.store.lock import worker_lock
from mh_batch.store.lookup import Target

from . import transitions

CHUNK = 10_000
"""How many jobs change in one transaction, so that a worker never waits long."""

_ASK_RUNNING = "UPDATE jobs SET cancel_requested = 1 WHERE {target} = ? AND status = 'running'"
_RUNNING = "SELECT count(*) FROM jobs WHERE {target} = ? AND status = 'running'"
_REQUESTS = "SELECT id FROM jobs WHERE status = 'running' AND cancel_requested = 1"
_CHOSEN = "SELECT id FROM jobs WHERE {target} = ? AND status = ?"
_REQUEUED_FROM = frozenset({Status.FAILED, Status.RUNNING})
_UNARCHIVE = "UPDATE batches SET archived_at = NULL WHERE id = ? AND archived_at IS NOT NULL"
_CLEAR_CRASHES = "UPDATE crashes SET forgiven = 1 WHERE job_id = ?"
# Of each choice the first incomplete answer, and all that follow it.
_DELETE_INCOMPLETE = """
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
    """Cancel the queued jobs of a target, and have its running ones ended.

    The worker ends a running job within a second or so; one that a dead worker left is cancelled
    here.
    """
    at_once = 0
    while cancelled := _cancel_some(db, target):
        at_once += cancelled
    if not db.conn.execute(_on(target, _RUNNING), (target.value,)).fetchone()[0]:
        return Cancelled(at_once, 0)
    try:
        # whoever gets the lock knows that no worker has these jobs
        with worker_lock(location(db)), immediate(db):
            at_once += transitions.cancel_running(db, target)
    except WorkerRunning:
        # if it dies before it sees the request, the next worker finds it
        with immediate(db):
            asked = int(db.conn.execute(_on(target, _ASK_RUNNING), (target.value,)).rowcount)
        return Cancelled(at_once, asked)
    return Cancelled(at_once, 0)


def cancel_requests(db: Database) -> frozenset[int]:
    """Return the running jobs that somebody asked to cancel."""
    return frozenset(row[0] for row in db.conn.execute(_REQUESTS))


def retry(
    db: Database,
    target: Target,
    statuses: Collection[Status] = RETRYABLE,
    change: Callable[[int], None] = lambda _: None,
) -> int:
    """Queue the jobs of a target that ended in one of `statuses` again; return how many.

    Their attempts stay and are counted on; complete answers stay too. Each job is queued once,
    also if a worker ends it badly again meanwhile. `change` gets the id of each in the transaction
    that queues it. An archived batch is in the lists again.
    """
    for status in statuses:
        check_move(status, Status.QUEUED)
    sources = frozenset(statuses)
    chosen = _chosen(db, target, sources)
    count = 0
    for start in range(0, len(chosen), CHUNK):
        with immediate(db):
            # another process may have queued or claimed some of them meanwhile
            again = [job for job in chosen[start : start + CHUNK] if _requeue(db, job, sources, 1)]
            db.conn.executemany(_DELETE_INCOMPLETE, [(job_id,) for job_id in again])
            for job_id in again:
                change(job_id)
            if again:
                db.conn.execute(_UNARCHIVE, (target.batch_id,))
        count += len(again)
    return count


def requeue(db: Database, job_ids: Iterable[int]) -> int:
    """Queue jobs again that run, or failed through no fault of their own, as they stand.

    Their crashes no longer count. Returns how many were queued: not those that somebody queued or
    cancelled meanwhile, nor a running one with a request to cancel, which is cancelled.
    """
    count = 0
    with immediate(db):
        for job_id in set(job_ids):
            transitions.cancel_requested(db, job_id)
            count += _requeue(db, job_id, _REQUEUED_FROM, 0)
    return count


def _requeue(db: Database, job_id: int, sources: frozenset[Status], rounds: int) -> bool:
    """Queue a job again, its crashes cleared, if it stands in one of `sources`."""
    moved = transitions.requeue(db, job_id, sources, rounds)
    if moved:
        db.conn.execute(_CLEAR_CRASHES, (job_id,))
    return moved


def _cancel_some(db: Database, target: Target) -> int:
    with immediate(db):
        return transitions.cancel_queued(db, target, CHUNK)


def _chosen(db: Database, target: Target, statuses: Collection[Status]) -> "array[int]":
    """Return the jobs of a target in one of `statuses`, packed: there may be a million."""
    with snapshot(db):
        return array(
            "q",
            (
                row[0]
                for status in sorted(statuses)
                for row in db.conn.execute(_on(target, _CHOSEN), (target.value, status.value))
            ),
        )


def _on(target: Target, template: str) -> str:
    """Return the statement for one job or a whole batch, so that SQLite finds an index for it."""
    return template.format(target=target.column)
