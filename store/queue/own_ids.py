"""Takes back the ids that the lines of a file brought along, once two of them turn out the same."""

from sqlite_utils import Database

from mh_batch.store.connection import immediate

STEP = 2_000
"""How many rows one transaction renames: a worker waits for it."""

# A copy keeps its number, which is the end of its id. A `custom_id` has no control character, so
# after the first step no row has the name that another is to get.
_RENAME = """
UPDATE jobs SET custom_id = :prefix || position || CASE WHEN :copies
    THEN '-' || substr(custom_id, length(rtrim(custom_id, '0123456789')) + 1) ELSE '' END
WHERE batch_id = :batch AND status = 'queued' AND position BETWEEN :first AND :last
"""


def number_rows(db: Database, batch_id: int, last: int, *, copies: bool) -> None:
    """Name the jobs of a batch that is loading after their lines, up to the line `last`.

    `copies` says that each of them is one of several of its row.
    """
    for prefix in ("\x1f", "line-"):
        for first in range(0, last + 1, STEP):
            values = {"prefix": prefix, "copies": copies, "batch": batch_id}
            with immediate(db):
                db.conn.execute(_RENAME, values | {"first": first, "last": first + STEP - 1})
