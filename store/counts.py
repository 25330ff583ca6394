"""How many jobs stand in each status, and what the queue waits for."""

from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot

COUNTS = "SELECT status, count(*) FROM jobs WHERE batch_id = ? GROUP BY status"
_RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running'"
_LOADING = "SELECT count(*) FROM batches WHERE state = 'loading'"
_QUEUED_MODELS = """
SELECT coalesce(j.model, b.model) AS wanted, count(*) AS jobs
FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
WHERE j.status = 'queued' AND b.state = 'ready'
GROUP BY wanted
ORDER BY jobs DESC, wanted
LIMIT ?
"""
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


def running_count(db: Database) -> int:
    """Return how many jobs are running, or were when their worker died."""
    return int(db.conn.execute(_RUNNING).fetchone()[0])


def loading_count(db: Database) -> int:
    """Return how many batches are being submitted, or were when their submitter died."""
    return int(db.conn.execute(_LOADING).fetchone()[0])


def queued_models(db: Database, most: int) -> list[tuple[str | None, int]]:
    """Return up to `most` models that queued jobs need, each with its number of jobs.

    The model is `None` for jobs whose batch names none either.
    """
    return [(model, jobs) for model, jobs in db.conn.execute(_QUEUED_MODELS, (most,))]
