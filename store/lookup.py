"""Which batch or job somebody means."""

import difflib

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import UnknownTarget
from mh_batch.store.connection import snapshot

_NAMES_SHOWN = 5


_NONE_YET = "there is none yet; `mh-batch submit FILE` makes one"


_ROW = "SELECT id, name, source, source_sha256, state, submitted_at, model, priority, job_count"


_BY_ID = f"{_ROW} FROM batches WHERE id = ? AND state = 'ready'"


_BY_NAME = f"{_ROW} FROM batches WHERE name = ? AND state = 'ready' ORDER BY id DESC LIMIT 1"


_LATEST = f"{_ROW} FROM batches WHERE state = 'ready' ORDER BY id DESC LIMIT 1"


_NAMES = "SELECT DISTINCT name FROM batches WHERE state = 'ready' ORDER BY id DESC LIMIT 1000"


_JOB = """
SELECT j.id FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
WHERE j.id = ? AND b.state = 'ready'
"""


# CROSS JOIN holds SQLite to one look-up a batch, latest first.
_JOB_BY_CUSTOM_ID = """
SELECT j.id FROM batches AS b CROSS JOIN jobs AS j ON j.batch_id = b.id AND j.custom_id = ?
WHERE b.state = 'ready'
ORDER BY b.id DESC
LIMIT 1
"""


class BatchRow(msgspec.Struct, frozen=True):
    """A batch that is ready. `source_sha256` is over the file it came from.

    `model` is the one of jobs that name none, `None` until a worker has brought one.
    """

    id: int
    name: str
    source: str
    source_sha256: str | None
    state: str
    submitted_at: str
    model: str | None
    priority: int
    job_count: int


def find_batch(db: Database, ref: str) -> BatchRow:
    """Return the batch with the number `ref`, else the latest with that name.

    Raises `UnknownTarget` with the names that come near.
    """
    with snapshot(db):
        number = _number(ref)
        row = None if number is None else db.conn.execute(_BY_ID, (number,)).fetchone()
        row = row or db.conn.execute(_BY_NAME, (ref,)).fetchone()
        if row is not None:
            return BatchRow(*row)
        known = [name for (name,) in db.conn.execute(_NAMES)]
    near = difflib.get_close_matches(ref, known, n=_NAMES_SHOWN, cutoff=0.6)
    if near:
        cure = f"did you mean {' or '.join(near)}?"
    elif known:
        cure = f"the latest: {', '.join(known[:_NAMES_SHOWN])}"
    else:
        cure = _NONE_YET
    raise UnknownTarget(f"no batch {ref!r}; {cure}")


def latest_batch(db: Database) -> BatchRow:
    """Return the batch submitted last; raises `UnknownTarget` if there is none."""
    row = db.conn.execute(_LATEST).fetchone()
    if row is None:
        raise UnknownTarget(f"no batch: {_NONE_YET}")
    return BatchRow(*row)


def find_job(db: Database, ref: str) -> int:
    """Return the id of the job with the number `ref`, else the latest with that `custom_id`.

    Raises `UnknownTarget` if there is neither.
    """
    with snapshot(db):
        number = _number(ref)
        row = None if number is None else db.conn.execute(_JOB, (number,)).fetchone()
        row = row or db.conn.execute(_JOB_BY_CUSTOM_ID, (ref,)).fetchone()
    if row is None:
        raise UnknownTarget(f"no job {ref!r}: neither a number of one nor a custom_id")
    return int(row[0])


def _number(ref: str) -> int | None:
    """Return `ref` as a row's number, or `None` if it cannot be one."""
    return int(ref) if ref.isascii() and ref.isdigit() and len(ref) < 19 else None
