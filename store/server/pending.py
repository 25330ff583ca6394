"""Batches that clients created and that are not queued yet."""

import msgspec
from sqlite_utils import Database

from mh_batch.store.clock import now
from mh_batch.store.connection import immediate

READY = "b.api_batch_id = a.id AND b.state = 'ready'"
"""Which batch `b` was queued for the one `a` of a client."""

PENDING = "a.validated_at IS NULL AND a.failed_at IS NULL AND a.cancelled_at IS NULL"
"""Whether the batch `a` of a client is still to be submitted."""

_ADD = """
INSERT INTO api_batches
    (file_id, endpoint, completion_window, created_at, expires_at, metadata)
VALUES (?, ?, ?, ?, ?, ?)
RETURNING id
"""
# a batch may have been queued although somebody cancelled it meanwhile: then its jobs are cancelled
_PASS_CANCEL_ON = f"""
INSERT INTO batch_ends (batch_id, cancelling_at)
SELECT b.id, a.cancelled_at FROM api_batches AS a JOIN batches AS b ON {READY}
WHERE a.validated_at IS NULL AND a.cancelled_at IS NOT NULL
ON CONFLICT (batch_id) DO NOTHING
"""
_SETTLE = f"""
UPDATE api_batches AS a SET validated_at = ?, cancelled_at = NULL
WHERE a.validated_at IS NULL AND EXISTS (SELECT 1 FROM batches AS b WHERE {READY})
"""
_NEXT = f"""
SELECT a.id, a.file_id, f.filename
FROM api_batches AS a JOIN files AS f ON f.id = a.file_id
WHERE {PENDING}
ORDER BY a.id
LIMIT 1
"""
_IS_PENDING = f"SELECT 1 FROM api_batches AS a WHERE a.id = ? AND {PENDING}"
_COUNT_PENDING = f"SELECT count(*) FROM api_batches AS a WHERE {PENDING}"
_FAIL = f"UPDATE api_batches AS a SET failed_at = ?, errors = ? WHERE a.id = ? AND {PENDING}"
_CANCEL_EARLY = f"UPDATE api_batches AS a SET cancelled_at = ? WHERE a.id = ? AND {PENDING}"


class NewApiBatch(msgspec.Struct, frozen=True):
    """A batch that a client creates; `metadata` is a JSON object, `None` for none."""

    file_id: int
    endpoint: str
    completion_window: str
    created_at: str
    expires_at: str
    metadata: str | None


class PendingBatch(msgspec.Struct, frozen=True):
    """A created batch whose file is to be submitted."""

    id: int
    file_id: int
    filename: str


def add_batch(db: Database, batch: NewApiBatch) -> int:
    """Store a batch that is to be validated and queued; return its own number."""
    with immediate(db):
        row = db.conn.execute(_ADD, msgspec.structs.astuple(batch)).fetchone()
    return int(row[0])


def next_pending(db: Database) -> PendingBatch | None:
    """Return the next created batch to submit, `None` if there is none.

    One that was queued before its server died is marked as such instead.
    """
    with immediate(db):
        mark_queued(db)
        row = db.conn.execute(_NEXT).fetchone()
    return None if row is None else msgspec.convert(dict(row), PendingBatch)


def settle(db: Database) -> None:
    """Mark created batches that were queued."""
    with immediate(db):
        mark_queued(db)


def is_pending(db: Database, api_id: int) -> bool:
    """Whether a created batch is still to be submitted: nobody cancelled it."""
    return db.conn.execute(_IS_PENDING, (api_id,)).fetchone() is not None


def count_pending(db: Database) -> int:
    """Return how many created batches are still to be submitted."""
    return int(db.conn.execute(_COUNT_PENDING).fetchone()[0])


def fail_batch(db: Database, api_id: int, errors: str) -> None:
    """End a created batch whose file cannot be submitted; `errors` is JSON."""
    with immediate(db):
        db.conn.execute(_FAIL, (now(), errors, api_id))


def cancel_pending(db: Database, api_id: int) -> bool:
    """Cancel a created batch before it is queued; `False` if it is. Part of a transaction."""
    mark_queued(db)
    return bool(db.conn.execute(_CANCEL_EARLY, (now(), api_id)).rowcount)


def mark_queued(db: Database) -> None:
    """Mark created batches that were queued; part of the caller's transaction."""
    db.conn.execute(_PASS_CANCEL_ON)
    db.conn.execute(_SETTLE, (now(),))
