"""Every change of `jobs.status`: the only UPDATEs of it, built from `MOVES` in `jobs/status.py`.

Each is part of the caller's transaction, and moves a job only out of a status from which
`jobs/status.py` allows the move: a job that another process moved meanwhile stays as it is.
"""

import sqlite3
from functools import cache

from sqlite_utils import Database

from mh_batch.jobs.errors import UnknownTarget
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import MOVES, Status, check_move
from mh_batch.store.clock import now
from mh_batch.store.lookup import Target

_STATUS = "SELECT status FROM jobs WHERE id = ?"
_STARTED = (
    "started_at = ?, finished_at = NULL, error_code = NULL, error = NULL, model = ?, "
    "model_fingerprint = ?, run_id = ?"
)
_RETURNING = "RETURNING position, custom_id, request, metadata, round"
_RELEASED = "run_id = NULL"
_REQUEUED = (
    "round = round + ?, run_id = NULL, cancel_requested = 0, error_code = NULL, error = NULL, "
    "started_at = NULL, finished_at = NULL"
)
_CANCELLED = "finished_at = ?, cancel_requested = 0"
_ENDED = "error_code = ?, error = ?, finished_at = ?, cancel_requested = 0"

_SOME_QUEUED = "id IN (SELECT id FROM jobs WHERE {} = ? AND status = 'queued' LIMIT ?)"
_RUNNING = frozenset({Status.RUNNING})


@cache
def update(
    target: Status, changes: str, where: str = "true", sources: frozenset[Status] | None = None
) -> str:
    """Return the statement that moves the jobs of `where` from one of `sources` to `target`.

    `None` stands for every status from which the table allows the move. Raises `IllegalMove` for
    a source from which it does not.
    """
    if sources is None:
        sources = frozenset(status for status in Status if target in MOVES[status])
    for source in sources:
        check_move(source, target)
    among = " OR ".join(f"status = '{source.value}'" for source in sorted(sources))
    return f"UPDATE jobs SET status = '{target.value}', {changes} WHERE {where} AND ({among})"


def status_of(db: Database, job_id: int) -> Status:
    """Return where a job stands; raises `UnknownTarget` if there is none."""
    row = db.conn.execute(_STATUS, (job_id,)).fetchone()
    if row is None:
        raise UnknownTarget(f"no job {job_id}")
    return Status(row[0])


def start(db: Database, job_id: int, model: ModelInfo, run_id: int) -> sqlite3.Row:
    """Move a queued job to `running`; return its position, custom_id, request and round."""
    sql = f"{update(Status.RUNNING, _STARTED, 'id = ?')} {_RETURNING}"
    values = (now(), model.name, model.fingerprint, run_id, job_id)
    row: sqlite3.Row = db.conn.execute(sql, values).fetchone()
    return row


def end(db: Database, job_id: int, how: JobEnd) -> None:
    """Move a job to its end; raises `IllegalMove` if it may not end so."""
    values = (how.error_code, how.error, now(), job_id)
    if not db.conn.execute(update(how.status, _ENDED, "id = ?"), values).rowcount:
        check_move(status_of(db, job_id), how.status)


def release(db: Database, job_id: int | None = None) -> int:
    """Queue a running job again, as it stands, or all of them for `None`; return how many."""
    where, values = _one_or_all(job_id)
    return int(db.conn.execute(update(Status.QUEUED, _RELEASED, where, _RUNNING), values).rowcount)


def cancel_requested(db: Database, job_id: int | None = None) -> int:
    """Cancel a running job if somebody asked for that, or all such jobs for `None`.

    Returns how many. A job that is queued again before would lose the request.
    """
    where, values = _one_or_all(job_id)
    sql = update(Status.CANCELLED, _CANCELLED, f"{where} AND cancel_requested = 1", _RUNNING)
    return int(db.conn.execute(sql, (now(), *values)).rowcount)


def cancel_queued(db: Database, target: Target, most: int) -> int:
    """Cancel up to `most` queued jobs of a target; return how many."""
    where = _SOME_QUEUED.format(target.column)
    sql = update(Status.CANCELLED, _CANCELLED, where, frozenset({Status.QUEUED}))
    return int(db.conn.execute(sql, (now(), target.value, most)).rowcount)


def cancel_running(db: Database, target: Target) -> int:
    """Cancel the running jobs of a target, which no worker may hold; return how many."""
    sql = update(Status.CANCELLED, _CANCELLED, f"{target.column} = ?", _RUNNING)
    return int(db.conn.execute(sql, (now(), target.value)).rowcount)


def requeue(db: Database, job_id: int, sources: frozenset[Status], rounds: int) -> bool:
    """Queue a job again if it stands in one of `sources`, `rounds` later; return whether it did.

    Its error and its times are cleared.
    """
    sql = update(Status.QUEUED, _REQUEUED, "id = ?", sources)
    return bool(db.conn.execute(sql, (rounds, job_id)).rowcount)


def _one_or_all(job_id: int | None) -> tuple[str, tuple[int, ...]]:
    """Return the condition for one job, or for all with `None`, and its values."""
    return ("true", ()) if job_id is None else ("id = ?", (job_id,))
