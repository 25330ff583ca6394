"""Which batch or job somebody means by a number or a name."""

import difflib
import sqlite3
from collections.abc import Iterable

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import InputError, UnknownTarget

from .connection import snapshot

_NAMES_SHOWN = 5
_NO_BATCHES = "there is none yet; `mh-batch submit FILE` makes one"

_ROW = "SELECT id, name, source, source_sha256, state, submitted_at, model, priority, job_count"
_BY_ID = f"{_ROW} FROM batches WHERE id = ? AND state = 'ready'"
_BY_NAME = f"""
{_ROW} FROM batches WHERE name = ? AND state = 'ready'
ORDER BY archived_at IS NOT NULL, id DESC LIMIT 1
"""
_LISTED = "FROM batches WHERE state = 'ready' AND archived_at IS NULL ORDER BY id DESC"
_LATEST = f"{_ROW} {_LISTED} LIMIT 1"
_NAMES = f"SELECT DISTINCT name {_LISTED} LIMIT 1000"
_ANY = "SELECT 1 FROM batches WHERE state = 'ready' LIMIT 1"
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
_JOB_IN_BATCH = (
    "SELECT id FROM jobs WHERE batch_id = ? AND (id = ? OR custom_id = ?) ORDER BY custom_id <> ?"
)
_JOB_NAMES = """
SELECT j.id, j.batch_id, b.name, j.custom_id
FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
WHERE j.id = ?
"""
_SAME_CUSTOM_ID = """
SELECT b.id FROM batches AS b CROSS JOIN jobs AS j ON j.batch_id = b.id AND j.custom_id = ?
WHERE b.state = 'ready' AND j.id <> ?
ORDER BY b.id DESC
"""


class BatchRow(msgspec.Struct, frozen=True):
    """A batch that is ready; `source_sha256` is the hash of the file it came from.

    `model` is for jobs that name none, `None` until a worker has brought one.
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


class Target(msgspec.Struct, frozen=True):
    """A whole batch, or one job of it where `job_id` is given; `label` is its name in messages."""

    batch_id: int
    job_id: int | None
    label: str

    @property
    def column(self) -> str:
        """The column of `jobs` that is `value` for the jobs of the target; it has an index."""
        return "batch_id" if self.job_id is None else "id"

    @property
    def value(self) -> int:
        """What `column` is for the jobs of the target."""
        return self.batch_id if self.job_id is None else self.job_id


def find_batch(db: Database, ref: str) -> BatchRow:
    """Return the batch with the number `ref`, else the latest with that name.

    One that is not archived goes before those that are. Raises `UnknownTarget` with similar names.
    """
    with snapshot(db):
        number = _number(ref)
        row = None if number is None else db.conn.execute(_BY_ID, (number,)).fetchone()
        row = row or db.conn.execute(_BY_NAME, (ref,)).fetchone()
        if row is not None:
            return BatchRow(*row)
        known = [name for (name,) in db.conn.execute(_NAMES)]
    similar = difflib.get_close_matches(ref, known, n=_NAMES_SHOWN, cutoff=0.6)
    if similar:
        cure = f"did you mean {' or '.join(similar)}?"
    elif known:
        cure = f"the latest: {', '.join(known[:_NAMES_SHOWN])}"
    else:
        cure = _NO_BATCHES
    raise UnknownTarget(f"no batch {ref!r}; {cure}")


def latest_batch(db: Database) -> BatchRow:
    """Return the batch submitted last, of those not archived.

    Raises `UnknownTarget` if there is none.
    """
    row = db.conn.execute(_LATEST).fetchone()
    if row is None and db.conn.execute(_ANY).fetchone() is not None:
        raise UnknownTarget(
            "no batch: all are archived; name one, `mh-batch status --all` lists them"
        )
    if row is None:
        raise UnknownTarget(f"no batch: {_NO_BATCHES}")
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
        raise UnknownTarget(f"no job {ref!r}: neither a job's number nor a custom_id")
    return int(row[0])


def find_target(db: Database, ref: str) -> Target:
    """Return what `ref` names: a batch by number or name, else a job by number or `custom_id`.

    `BATCH/JOB` is a job of that batch. Raises `InputError` for a name that is both a batch's and
    a job's, and `UnknownTarget` for one that is neither.
    """
    batch, job = _batch_target(db, ref), _job_target(db, ref)
    if batch is not None and job is not None and not ref.isdigit():
        raise InputError(
            f"{ref!r} is both a batch and a job; write {batch.batch_id} for the batch, "
            f"{job.batch_id}/{ref} for the job"
        )
    found = batch or job or _job_in_batch(db, ref)
    if found is None:
        raise UnknownTarget(
            f"no batch and no job {ref!r}; name a batch by its number or name, a job by its number "
            "or custom_id, or as BATCH/JOB"
        )
    return found


def find_targets(db: Database, refs: Iterable[str]) -> list[Target]:
    """Return what `refs` name, each once: without the jobs of batches that are named themselves.

    Raises what `find_target` raises.
    """
    found = [find_target(db, ref) for ref in refs]
    whole = {target.batch_id for target in found if target.job_id is None}
    once: dict[tuple[int, int | None], Target] = {}
    for target in found:
        if target.job_id is None or target.batch_id not in whole:
            once.setdefault((target.batch_id, target.job_id), target)
    return list(once.values())


def find_one_job(db: Database, ref: str) -> Target:
    """Return the job that `ref` names: by number, `custom_id` (the latest) or as `BATCH/JOB`.

    Raises `UnknownTarget` if there is none.
    """
    found = _job_target(db, ref) or _job_in_batch(db, ref)
    if found is None:
        raise UnknownTarget(
            f"no job {ref!r}: neither a job's number, nor a custom_id, nor BATCH/JOB"
        )
    return found


def same_custom_id(db: Database, target: Target, ref: str) -> list[str]:
    """Return as `BATCH/JOB` the jobs of other batches that have `ref` as `custom_id` too."""
    rows = db.conn.execute(_SAME_CUSTOM_ID, (ref, target.job_id)).fetchall()
    return [f"{batch_id}/{ref}" for (batch_id,) in rows]


def _number(ref: str) -> int | None:
    """Return `ref` as the number of a row, `None` if it cannot be one."""
    return int(ref) if ref.isascii() and ref.isdigit() and len(ref) < 19 else None


def _batch_target(db: Database, ref: str) -> Target | None:
    try:
        batch = find_batch(db, ref)
    except UnknownTarget:
        return None
    return Target(batch.id, None, f"batch {batch.id} ({batch.name})")


def _job_target(db: Database, ref: str) -> Target | None:
    try:
        return _target_of(db, find_job(db, ref))
    except UnknownTarget:
        return None


def _job_in_batch(db: Database, ref: str) -> Target | None:
    """Return the job that `BATCH/JOB` names, `None` if it names none."""
    name, _, job = ref.partition("/")
    batch = _batch_target(db, name)
    if batch is None:
        return None
    number = _number(job)
    row: sqlite3.Row | None = db.conn.execute(
        _JOB_IN_BATCH, (batch.batch_id, -1 if number is None else number, job, job)
    ).fetchone()
    return None if row is None else _target_of(db, row[0])


def _target_of(db: Database, job_id: int) -> Target:
    row = db.conn.execute(_JOB_NAMES, (job_id,)).fetchone()
    return Target(row["batch_id"], row["id"], f"job {row[0]} ({row['name']}/{row['custom_id']})")
