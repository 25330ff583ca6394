"""Deletes the rows of a batch that nobody sees: one never published, or one given up."""

from sqlite_utils import Database

from .connection import immediate

CHUNK = 200
"""How many jobs one transaction deletes, with all their rows: a worker waits for it."""

BARE_CHUNK = 2_000
"""The same, where nothing was recorded of any job."""

_SOME = "SELECT id FROM jobs WHERE batch_id = ? LIMIT ?"
_ATTEMPTS = "(SELECT id FROM attempts WHERE job_id = ?)"
# what refers to others goes before these
_OF_JOB = (
    "DELETE FROM turns WHERE job_id = ?",
    f"DELETE FROM channels WHERE attempt_id IN {_ATTEMPTS}",
    f"DELETE FROM parses WHERE attempt_id IN {_ATTEMPTS}",
    f"DELETE FROM timings WHERE attempt_id IN {_ATTEMPTS}",
    "DELETE FROM attempts WHERE job_id = ?",
    "DELETE FROM crashes WHERE job_id = ?",
    "DELETE FROM retry_settings WHERE job_id = ?",
    "DELETE FROM jobs WHERE id = ?",
)


def delete_batch(db: Database, batch_id: int) -> None:
    """Delete a batch that is loading, and all that was recorded of it, a chunk at a time."""
    row = db.conn.execute("SELECT attempts FROM batches WHERE id = ?", (batch_id,)).fetchone()
    chunk = CHUNK if row is not None and row[0] else BARE_CHUNK
    while jobs := db.conn.execute(_SOME, (batch_id, chunk)).fetchall():
        ids = [(row[0],) for row in jobs]
        with immediate(db):
            for statement in _OF_JOB:
                db.conn.executemany(statement, ids)
    with immediate(db):
        db.conn.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
