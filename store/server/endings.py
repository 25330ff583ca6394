"""What comes at the end of a batch: cancelling, expiry, and the size of its results."""

from collections.abc import Generator, Sequence

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.status import OPEN, Status
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot
from mh_batch.store.reports.results import finished_job

from .files import put_part
from .pending import PENDING, READY

_OPEN = " OR ".join(f"j.status = '{status.value}'" for status in sorted(OPEN))
_HAS_OPEN = f"EXISTS (SELECT 1 FROM jobs AS j WHERE j.batch_id = b.id AND ({_OPEN}))"
# somebody had jobs of an ended batch tried again: it goes on as if nobody had ended it
_REOPENED = f"""
SELECT b.id FROM batches AS b JOIN batch_ends AS e ON e.batch_id = b.id
WHERE e.ended_at IS NOT NULL AND {_HAS_OPEN}
"""
_FORGET_END = "DELETE FROM batch_ends WHERE batch_id = ?"
_FORGET_EXPIRY = """
UPDATE api_batches SET expires_at = NULL
WHERE id = (SELECT api_batch_id FROM batches WHERE id = ?)
"""
_EXPIRE_PENDING = f"""
UPDATE api_batches AS a SET failed_at = ?1, errors = ?2
WHERE a.expires_at <= ?1 AND {PENDING}
    AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE {READY})
"""
_PENDING_DUE = f"SELECT 1 FROM api_batches AS a WHERE a.expires_at <= ? AND {PENDING} LIMIT 1"
_EXPIRED = f"""
SELECT b.id FROM api_batches AS a JOIN batches AS b ON {READY}
LEFT JOIN batch_ends AS e ON e.batch_id = b.id
WHERE a.expires_at <= ? AND e.expired_at IS NULL AND e.cancelling_at IS NULL AND {_HAS_OPEN}
"""
_EXPIRE = """
INSERT INTO batch_ends (batch_id, expired_at) VALUES (?, ?)
ON CONFLICT (batch_id) DO UPDATE SET expired_at = excluded.expired_at
"""
_TO_CANCEL = f"""
SELECT b.id FROM batch_ends AS e JOIN batches AS b ON b.id = e.batch_id
WHERE (e.cancelling_at IS NOT NULL OR e.expired_at IS NOT NULL) AND e.ended_at IS NULL
    AND {_HAS_OPEN}
"""
_TO_MEASURE = f"""
SELECT b.id AS batch_id, b.attempts, e.expired_at IS NOT NULL AS expired
FROM batches AS b LEFT JOIN batch_ends AS e ON e.batch_id = b.id
WHERE b.state = 'ready' AND (e.ended_at IS NULL OR e.attempts IS NOT b.attempts)
    AND NOT {_HAS_OPEN}
ORDER BY b.id DESC
LIMIT 1
"""
_HAS_EXPIRED = "SELECT 1 FROM batch_ends WHERE batch_id = ? AND expired_at IS NOT NULL"
_END = """
INSERT INTO batch_ends (batch_id, ended_at, attempts) VALUES (?, ?, ?)
ON CONFLICT (batch_id) DO UPDATE SET ended_at = excluded.ended_at, attempts = excluded.attempts
"""
_STILL_THERE = f"SELECT 1 FROM batches AS b WHERE b.id = ? AND b.attempts = ? AND NOT {_HAS_OPEN}"
_AFTER = "SELECT position, id FROM jobs WHERE batch_id = ? AND status = ? AND position > ?"


class EndedBatch(msgspec.Struct, frozen=True):
    """A batch whose jobs have all ended, after so many attempts; `expired` ended it."""

    batch_id: int
    attempts: int
    expired: bool


class Sizes(msgspec.Struct):
    """How many bytes the results of a batch have, and when its last job ended."""

    output: int = 0
    errors: int = 0
    ended_at: str = ""


def forget_reopened(db: Database) -> list[int]:
    """Let batches go on whose jobs were queued again after their end; return which.

    They are neither cancelled nor expired any more.
    """
    if db.conn.execute(_REOPENED).fetchone() is None:
        return []
    with immediate(db):
        found = [row[0] for row in db.conn.execute(_REOPENED).fetchall()]
        for batch_id in found:
            db.conn.execute(_FORGET_END, (batch_id,))
            db.conn.execute(_FORGET_EXPIRY, (batch_id,))
    return found


def expire(db: Database, at: str, errors: str) -> list[int]:
    """Mark the batches that are not done by their `expires_at`; return those with jobs to cancel.

    Those that are not queued yet fail with `errors`, a JSON list.
    """
    if not any(db.conn.execute(due, (at,)).fetchone() for due in (_PENDING_DUE, _EXPIRED)):
        return []
    with immediate(db):
        db.conn.execute(_EXPIRE_PENDING, (at, errors))
        found = [row[0] for row in db.conn.execute(_EXPIRED, (at,)).fetchall()]
        for batch_id in found:
            db.conn.execute(_EXPIRE, (batch_id, at))
    return found


def to_cancel(db: Database) -> list[int]:
    """Return the batches that were cancelled or have expired, and still have jobs to cancel."""
    with snapshot(db):
        return [row[0] for row in db.conn.execute(_TO_CANCEL)]


def next_ended(db: Database) -> EndedBatch | None:
    """Return a batch that has ended and whose results were not measured, the latest first."""
    with snapshot(db):
        row = db.conn.execute(_TO_MEASURE).fetchone()
    return None if row is None else EndedBatch(row[0], row[1], bool(row[2]))


def has_expired(db: Database, batch_id: int) -> bool:
    """Whether a batch was ended because its time was over."""
    return db.conn.execute(_HAS_EXPIRED, (batch_id,)).fetchone() is not None


def record_end(db: Database, ended: EndedBatch, sizes: Sizes) -> None:
    """Store the sizes of the results of a batch, unless it has gone on meanwhile."""
    key = (ended.batch_id, ended.attempts)
    with immediate(db):
        if db.conn.execute(_STILL_THERE, key).fetchone() is None:
            return
        put_part(db, ended.batch_id, "output", sizes.output)
        put_part(db, ended.batch_id, "errors", sizes.errors)
        ended_at = sizes.ended_at or now()
        db.conn.execute(_END, (ended.batch_id, ended_at, ended.attempts))


def finished_after(
    db: Database, batch_id: int, statuses: Sequence[Status], position: int
) -> Generator[FinishedJob, None, None]:
    """Yield the finished jobs of a batch behind a position, in order.

    They are of one state of the database. Whoever is slow should stop early and go on with another
    call: until the iterator is closed, the write-ahead log grows.
    """
    sql = " UNION ALL ".join([_AFTER] * len(statuses)) + " ORDER BY position"
    values = [value for status in statuses for value in (batch_id, status.value, position)]
    with snapshot(db):
        for row in db.conn.execute(sql, values):
            yield finished_job(db, row["id"])
