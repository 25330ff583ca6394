"""Takes batches out of the lists, and puts them back; their rows stay as they are."""

from sqlite_utils import Database

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.status import OPEN
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate
from mh_batch.store.counts import batch_counts
from mh_batch.store.lookup import BatchRow

_ARCHIVE = "UPDATE batches SET archived_at = ? WHERE id = ? AND archived_at IS NULL"
_RESTORE = "UPDATE batches SET archived_at = NULL WHERE id = ? AND archived_at IS NOT NULL"


def archive(db: Database, batches: list[BatchRow]) -> list[bool]:
    """Archive batches, all or none; return of each whether it was not archived before.

    Raises `InputError` for a batch that has jobs left to do.
    """
    with immediate(db):
        for batch in batches:
            counts = batch_counts(db, batch.id)
            if left := sum(counts[status] for status in OPEN):
                raise InputError(
                    f"batch {batch.id} ({batch.name}): {left} of its jobs are queued or running; "
                    "let `mh-batch work` finish them, or `mh-batch cancel` it first"
                )
        at = now()
        return [bool(db.conn.execute(_ARCHIVE, (at, batch.id)).rowcount) for batch in batches]


def restore(db: Database, batches: list[BatchRow]) -> list[bool]:
    """Put archived batches back into the lists; return of each whether it was archived."""
    with immediate(db):
        return [bool(db.conn.execute(_RESTORE, (batch.id,)).rowcount) for batch in batches]
