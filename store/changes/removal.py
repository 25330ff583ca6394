"""Deletes whole batches, and gives the space that they took back to the disk."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import InputError, UnknownTarget
from mh_batch.jobs.status import Status
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, location, snapshot
from mh_batch.store.counts import batch_counts
from mh_batch.store.deletion import delete_batch
from mh_batch.store.faults import BUSY_SECONDS, file_faults
from mh_batch.store.lock import SubmitLock, worker_lock
from mh_batch.store.lookup import BatchRow

READER_SECONDS = 2
"""How long a vacuum waits for those that read the database."""

# as a batch that is being submitted: no claim, list or result sees it, and what a killed deletion
# has left is deleted by the next worker or submit
_HIDE = "UPDATE batches SET state = 'loading' WHERE id = ?"
_RECORD = """
INSERT INTO deletions (batch_id, name, jobs, last_job_id, at)
SELECT b.id, b.name, count(j.id), coalesce(max(j.id), 0), ?
FROM batches AS b LEFT JOIN jobs AS j ON j.batch_id = b.id
WHERE b.id = ? AND b.state = 'ready'
GROUP BY b.id
"""
_ATTEMPTS = (
    "SELECT count(*) FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id WHERE batch_id = ?"
)


class Extent(msgspec.Struct, frozen=True):
    """What a batch holds: its jobs, how many of them are queued, and their attempts."""

    jobs: int
    queued: int
    attempts: int


class Space(msgspec.Struct, frozen=True):
    """How large a database is, and how much of it holds nothing, in bytes."""

    size: int
    free: int


def extent(db: Database, batch: BatchRow) -> Extent:
    """Return what would be deleted with a batch."""
    with snapshot(db):
        attempts = int(db.conn.execute(_ATTEMPTS, (batch.id,)).fetchone()[0])
        counts = batch_counts(db, batch.id)
    return Extent(sum(counts.values()), counts[Status.QUEUED], attempts)


def check_deletable(db: Database, batch: BatchRow) -> None:
    """Raise `InputError` for a batch of which a worker has jobs."""
    if running := batch_counts(db, batch.id)[Status.RUNNING]:
        raise InputError(
            f"batch {batch.id} ({batch.name}): {running} of its jobs are running; "
            f"`mh-batch cancel {batch.id}` first"
        )


def delete(db: Database, batch: BatchRow) -> None:
    """Delete a batch with everything that was recorded of it, beside a worker too.

    Its number is not given again, nor are those of its jobs.
    Raises `InputError` if any of its jobs runs, and `UnknownTarget` if somebody else has deleted it
    meanwhile; then nothing is deleted.
    """
    lock = SubmitLock(location(db))
    try:
        # until the end, nobody else deletes it as one whose submitter died
        lock.share()
        with immediate(db):
            check_deletable(db, batch)
            if not db.conn.execute(_RECORD, (now(), batch.id)).rowcount:
                raise UnknownTarget(f"batch {batch.id} ({batch.name}): is deleted already")
            db.conn.execute(_HIDE, (batch.id,))
        delete_batch(db, batch.id)
    finally:
        lock.close()


def space(db: Database) -> Space:
    """Return how large the database is, and how much of it could be given back."""
    with snapshot(db):
        names = ("page_size", "page_count", "freelist_count")
        page, pages, free = (int(db.conn.execute(f"PRAGMA {n}").fetchone()[0]) for n in names)
    return Space(page * pages, page * free)


def vacuum(db: Database) -> None:
    """Write the database anew, without the free pages.

    Raises `WorkerRunning` while a worker drains it, and `StoreUnusable` on a full disk, or while
    somebody else writes; the database is as it was then.
    """
    path = location(db)
    with worker_lock(path), file_faults(str(path)):
        db.conn.execute("VACUUM")
        # a reader may keep the log: then the file shrinks once that is gone
        db.conn.execute(f"PRAGMA busy_timeout = {READER_SECONDS * 1000}")
        db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.conn.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
