"""Batches as clients of the server see them: those that they created, and those of `submit`."""

from typing import Any, NamedTuple

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot
from mh_batch.store.counts import batch_counts

from .pending import READY, cancel_pending

_OF_CLIENT = f"""
SELECT a.*, a.id AS api_id, b.id AS batch_id
FROM api_batches AS a LEFT JOIN batches AS b ON {READY}
WHERE a.id = ? AND (a.validated_at IS NULL OR b.id IS NOT NULL)
"""
_PART = """
(SELECT id FROM files WHERE batch_id = b.id AND part = '{}' AND deleted_at IS NULL AND bytes > 0)
"""
_QUEUED = f"""
SELECT b.id, b.name, b.source, b.model, b.submitted_at, b.attempts, b.api_batch_id,
    e.cancelling_at, e.expired_at, e.ended_at, e.attempts AS ended_attempts,
    {_PART.format("output")} AS output_file, {_PART.format("errors")} AS error_file
FROM batches AS b LEFT JOIN batch_ends AS e ON e.batch_id = b.id
WHERE b.id = ? AND b.state = 'ready'
"""
_KEYS = f"""
SELECT created_at, api, id FROM (
    SELECT a.created_at, 1 AS api, a.id FROM api_batches AS a
    WHERE a.validated_at IS NULL OR EXISTS (SELECT 1 FROM batches AS b WHERE {READY})
    UNION ALL
    SELECT b.submitted_at, 0, b.id FROM batches AS b
    WHERE b.state = 'ready' AND b.api_batch_id IS NULL
)
WHERE :created_at IS NULL OR (created_at, api, id) < (:created_at, :api, :id)
ORDER BY created_at DESC, api DESC, id DESC
LIMIT :most
"""
_CANCELLING = """
INSERT INTO batch_ends (batch_id, cancelling_at) VALUES (?, ?)
ON CONFLICT (batch_id) DO UPDATE SET cancelling_at = coalesce(cancelling_at, excluded.cancelling_at)
"""
_QUEUED_JOBS = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE status = 'queued' LIMIT ?)"
_MODELS = "SELECT DISTINCT model FROM batch_models ORDER BY model"


_OWN = (
    *("file_id", "endpoint", "completion_window", "created_at", "expires_at", "failed_at"),
    *("cancelled_at", "metadata", "errors"),
)
_OF_QUEUED = (
    *("name", "source", "model", "cancelling_at", "expired_at", "output_file", "error_file"),
)

CHAT = "/v1/chat/completions"
"""The endpoint of every batch."""


class BatchRef(NamedTuple):
    """Which batch: one that a client created (`api`), by its own number, or one of `submit`."""

    api: bool
    number: int


class ApiBatch(msgspec.Struct, frozen=True):
    """A batch with its counts.

    What only a created one has is `None` for one of `submit`: `file_id`, `completion_window`,
    `expires_at`, `failed_at`, `cancelled_at`, `metadata`, `errors`. `batch_id` is the number of the
    queued batch, `None` until there is one. `ended_at` is `None` until the results of its last
    attempts were measured.
    """

    ref: BatchRef
    created_at: str
    endpoint: str
    file_id: int | None = None
    completion_window: str | None = None
    expires_at: str | None = None
    failed_at: str | None = None
    cancelled_at: str | None = None
    metadata: str | None = None
    errors: str | None = None
    batch_id: int | None = None
    name: str | None = None
    source: str | None = None
    model: str | None = None
    in_progress_at: str | None = None
    cancelling_at: str | None = None
    expired_at: str | None = None
    ended_at: str | None = None
    output_file: int | None = None
    error_file: int | None = None
    counts: dict[Status, int] = {}

    def count(self, *statuses: Status) -> int:
        """Return how many jobs stand in one of `statuses`."""
        return sum(self.counts.get(status, 0) for status in statuses)


def find_api_batch(db: Database, ref: BatchRef) -> ApiBatch | None:
    """Return a batch, `None` if there is none, or it was deleted."""
    with snapshot(db):
        return _created(db, ref) if ref.api else _submitted(db, ref)


def list_api_batches(
    db: Database, limit: int, after: BatchRef | None
) -> tuple[list[ApiBatch], bool] | None:
    """Return up to `limit` batches behind the one `after`, latest first, and if there are more.

    `None` if there is no batch `after`.
    """
    with snapshot(db):
        cursor: dict[str, object] = {"created_at": None, "api": 0, "id": 0}
        if after is not None:
            last = find_api_batch(db, after)
            if last is None:
                return None
            cursor = {"created_at": last.created_at, "api": after.api, "id": after.number}
        keys = db.conn.execute(_KEYS, {**cursor, "most": limit + 1}).fetchall()
        refs = [BatchRef(bool(row["api"]), row["id"]) for row in keys[:limit]]
        found = [find_api_batch(db, ref) for ref in refs]
    return [batch for batch in found if batch is not None], len(keys) > limit


def request_cancel(db: Database, ref: BatchRef) -> bool:
    """Record that a batch is to be cancelled; return whether there are jobs to cancel.

    A created batch that is not queued yet is cancelled by this.
    """
    with immediate(db):
        if ref.api and cancel_pending(db, ref.number):
            return False
        batch = find_api_batch(db, ref)
        if batch is None or batch.batch_id is None:
            return False
        db.conn.execute(_CANCELLING, (batch.batch_id, now()))
    return True


def queued_jobs(db: Database, most: int) -> int:
    """Return how many jobs are queued, `most` if there are more."""
    return int(db.conn.execute(_QUEUED_JOBS, (most,)).fetchone()[0])


def known_models(db: Database) -> list[str]:
    """Return the names of the models that batches have run on."""
    return [row[0] for row in db.conn.execute(_MODELS)]


def _created(db: Database, ref: BatchRef) -> ApiBatch | None:
    row = db.conn.execute(_OF_CLIENT, (ref.number,)).fetchone()
    if row is None:
        return None
    own = {name: row[name] for name in _OWN}
    if row["batch_id"] is None:
        return ApiBatch(ref=ref, **own)
    queued = _queued(db, row["batch_id"])
    if row["validated_at"] is not None:
        queued["in_progress_at"] = row["validated_at"]
    return ApiBatch(ref=ref, **{**own, **queued})


def _submitted(db: Database, ref: BatchRef) -> ApiBatch | None:
    row = db.conn.execute(_QUEUED, (ref.number,)).fetchone()
    if row is None or row["api_batch_id"] is not None:
        return None
    queued = _queued(db, ref.number)
    created_at = str(queued["in_progress_at"])
    return ApiBatch(ref=ref, created_at=created_at, endpoint=CHAT, **queued)


def _queued(db: Database, batch_id: int) -> dict[str, Any]:
    """Return what is known of a batch that is ready, by the names of `ApiBatch`."""
    row = db.conn.execute(_QUEUED, (batch_id,)).fetchone()
    measured = row["ended_attempts"] == row["attempts"]
    return {
        **{name: row[name] for name in _OF_QUEUED},
        "batch_id": batch_id,
        "in_progress_at": row["submitted_at"],
        "ended_at": row["ended_at"] if measured else None,
        "counts": batch_counts(db, batch_id),
    }
