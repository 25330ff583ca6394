"""How many jobs stand in each status."""

from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot

COUNTS = "SELECT status, count(*) FROM jobs WHERE batch_id = ? GROUP BY status"
_READY = "SELECT id FROM batches WHERE state = 'ready'"


def batch_counts(db: Database, batch_id: int) -> dict[Status, int]:
    """Return how many jobs of a batch stand in each status."""
    counts = dict.fromkeys(Status, 0)
    for status, count in db.conn.execute(COUNTS, (batch_id,)):
        counts[Status(status)] = count
    return counts


def queue_counts(db: Database) -> dict[Status, int]:
    """Return how many jobs of all batches stand in each status."""
    totals = dict.fromkeys(Status, 0)
    with snapshot(db):
        for (batch_id,) in db.conn.execute(_READY).fetchall():
            for status, count in batch_counts(db, batch_id).items():
                totals[status] += count
    return totals
