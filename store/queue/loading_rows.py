"""The rows of a batch that is loading: what they hold, and their names."""

import msgspec
from sqlite_utils import Database

from mh_batch.store.connection import immediate

STEP = 2_000
"""How many rows one transaction renames: a worker waits for it."""

# JSON goes to SQLite as bytes: a text of Python takes up to four times the memory
Row = tuple[int, int, str, int, str | None, int, bytes | None, bytes]

ADD = """
INSERT INTO jobs
    (id, batch_id, position, custom_id, priority, model, claim_key, metadata, request)
VALUES (
    1 + max(
        (SELECT coalesce(max(id), 0) FROM jobs),
        (SELECT coalesce(max(last_job_id), 0) FROM deletions)
    ),
    ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT)
)
ON CONFLICT (batch_id, custom_id) DO NOTHING
"""
_HOLDER = "SELECT position FROM jobs WHERE batch_id = ? AND custom_id = ?"
# A copy keeps its number, which is the end of its id. A `custom_id` has no control character, so
# after the first step no row has the name that another is to get.
_RENAME = """
UPDATE jobs SET custom_id = :prefix || position || CASE WHEN :copies
    THEN '-' || substr(custom_id, length(rtrim(custom_id, '0123456789')) + 1) ELSE '' END
WHERE batch_id = :batch AND status = 'queued' AND position BETWEEN :first AND :last
"""


class EncodedLine(msgspec.Struct, frozen=True):
    """A line of a batch as it is stored; `claim_key` orders the jobs of the batch.

    `own_id` and `copy` are those of `JobLine`.
    """

    number: int
    custom_id: str
    model: str | None
    claim_key: int
    metadata: bytes | None
    request: bytes
    own_id: str | None = None
    copy: int = 0


def holder(db: Database, batch_id: int, custom_id: str) -> int:
    """Return the number of the line that has this `custom_id` in a batch."""
    return int(db.conn.execute(_HOLDER, (batch_id, custom_id)).fetchone()[0])


def number_rows(db: Database, batch_id: int, last: int, *, copies: bool) -> None:
    """Name the jobs of a batch that is loading after their lines, up to the line `last`.

    `copies` says that each of them is one of several of its row.
    """
    for prefix in ("\x1f", "line-"):
        for first in range(0, last + 1, STEP):
            values = {"prefix": prefix, "copies": copies, "batch": batch_id}
            with immediate(db):
                db.conn.execute(_RENAME, values | {"first": first, "last": first + STEP - 1})
