"""The progress of the batches, in numbers that cost no walk over their jobs."""

import sqlite3
from collections.abc import Collection

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.generation import decode_speed
from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot
from mh_batch.store.counts import batch_counts

_REPORTS = """
SELECT id, name, state, submitted_at, job_count, attempts, retries, completion_tokens,
    machine_seconds, rescued, archived_at
FROM batches
WHERE state = 'ready' AND iif(?1 IS NULL, archived_at IS NULL OR ?2, id = ?1)
ORDER BY id
"""
_SOURCES = "SELECT DISTINCT source FROM batches"


def sources(db: Database) -> tuple[str, ...]:
    """Return the names of all submitted files, as the user gave them; `-` is standard input."""
    with snapshot(db):
        return tuple(row[0] for row in db.conn.execute(_SOURCES))


class BatchReport(msgspec.Struct, frozen=True):
    """The progress of one batch.

    `counts` has every status. `completion_tokens` and `tokens_per_second` (of decoding; `None` if
    nothing was decoded) are over all attempts; `retries` are the attempts from scratch after a
    first one. `rescued` of the jobs that are done have an answer that was forced from unfinished
    thoughts. `archived_at` is when it was archived, `None` if it was not.
    """

    id: int
    name: str
    state: str
    submitted_at: str
    total: int
    counts: dict[Status, int]
    attempts: int
    retries: int
    completion_tokens: int
    tokens_per_second: float | None
    rescued: int = 0
    archived_at: str | None = None

    def count(self, statuses: Collection[Status]) -> int:
        """Return how many jobs stand in one of `statuses`."""
        return sum(self.counts.get(status, 0) for status in statuses)


def batch_reports(
    db: Database, batch_id: int | None, *, archived: bool = False
) -> list[BatchReport]:
    """Return the reports of all batches in order, or of the one with `batch_id`.

    Of all, those that are archived are left out unless `archived` is true.
    """
    with snapshot(db):
        rows = db.conn.execute(_REPORTS, (batch_id, archived)).fetchall()
        return [_report(row, batch_counts(db, row["id"])) for row in rows]


def _report(row: sqlite3.Row, counts: dict[Status, int]) -> BatchReport:
    return BatchReport(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        submitted_at=row["submitted_at"],
        total=row["job_count"],
        counts=counts,
        attempts=row["attempts"],
        retries=row["retries"],
        completion_tokens=row["completion_tokens"],
        # as `decoded_tokens` has it for one attempt
        tokens_per_second=decode_speed(
            row["completion_tokens"] - row["attempts"], row["machine_seconds"]
        ),
        rescued=row["rescued"],
        archived_at=row["archived_at"],
    )
