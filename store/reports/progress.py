"""The progress of a drain, for readers while the worker writes.

Each function reads a bounded number of rows; only the counts of the batches grow with the queue, so
frequent readers should ask for those rarely.
"""

import sqlite3
from datetime import datetime

import msgspec
from msgspec.structs import replace
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request
from mh_batch.jobs.generation import FinishReason, decode_speed, decoded_tokens
from mh_batch.jobs.record import AttemptKey, Verdict
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.connection import snapshot
from mh_batch.store.queue.history import request_of
from mh_batch.store.sql import statements

WINDOW = 200
"""Over how many of the latest attempts the pace is measured."""

LONG_WINDOW = 5000
"""Over how many, if fewer than `ENOUGH_JOBS` were finished in those."""

ENOUGH_JOBS = 3
"""How many jobs must be finished for a pace to go by."""

_SQL = statements("reports/progress.sql")
_RUN = """
SELECT id, model, device, started_at, finished_at, end_reason
FROM runs ORDER BY id DESC LIMIT 1
"""
# Jobs decode in the slots of their batch, which may be others than the worker's own.
_SLOTS = """
SELECT m.parallel
FROM jobs AS j JOIN batch_models AS m ON m.batch_id = j.batch_id AND m.model = j.model
WHERE j.status = 'running' ORDER BY j.started_at, j.id LIMIT 1
"""
_COUNT_RUNNING = "SELECT count(*) FROM jobs WHERE status = 'running'"
# The worker claims the next jobs while others are on the model: the earlier ones are on the model.
_RUNNING = """
SELECT id, batch_id, custom_id, request FROM jobs WHERE status = 'running'
ORDER BY started_at, id LIMIT ?
"""
# one crash is a row for each job that was in the process, all of one time
_CRASHES = "SELECT count(DISTINCT iif(alone, id, at)) FROM crashes WHERE run_id = ?"
_LATEST_STDERR = """
SELECT stderr_tail FROM crashes
WHERE run_id = (SELECT max(id) FROM runs)
GROUP BY iif(alone, id, at)
ORDER BY max(id) DESC
LIMIT 1000
"""
_CHOICES_OVER = """
SELECT count(DISTINCT choice) FROM turns
WHERE job_id = ? AND turn >= ? AND finish_reason != 'tool_calls'
"""
_LAST_OF_JOB = """
SELECT choice, turn, step, attempt, verdict, finish_reason FROM attempts
WHERE job_id = ? ORDER BY id DESC LIMIT 1
"""


class RunRow(msgspec.Struct, frozen=True):
    """The latest run of a worker; no `finished_at` means that it is running, or crashed."""

    id: int
    model: str | None
    device: str | None
    started_at: str
    finished_at: str | None
    end_reason: str | None


class RunningJob(msgspec.Struct, frozen=True):
    """A job on the model, and which attempt of it."""

    batch_id: int
    custom_id: str
    key: AttemptKey


class LastAttempt(msgspec.Struct, frozen=True):
    """The latest timing row: bytes, and tokens a second of decoding, those of all slots."""

    tokens_per_second: float | None
    kv_len: int
    max_kv_size: int | None
    active_memory_bytes: int
    peak_memory_bytes: int
    process_memory_bytes: int


class Pace(msgspec.Struct, frozen=True):
    """How fast the latest attempts of a run were.

    `jobs` were finished in `seconds`; `tokens_per_second` is of decoding, `None` if nothing was
    decoded.
    """

    jobs: int
    seconds: float
    tokens_per_second: float | None


class Latest(msgspec.Struct, frozen=True):
    """The state of a drain without the counts; `None` for what there is not.

    With several slots, `ahead` counts the jobs that were claimed while all slots were taken.
    """

    run: RunRow | None
    running: tuple[RunningJob, ...]
    ahead: int
    last: LastAttempt | None
    pace: Pace


class Reason(msgspec.Struct, frozen=True):
    """Jobs of a run that ended badly for one reason; `job_id` and `custom_id` are the first's."""

    status: Status
    error_code: str | None
    jobs: int
    job_id: int
    custom_id: str


def latest(db: Database) -> Latest:
    """Return the state of the drain, all of it from one state of the database."""
    with snapshot(db):
        row = db.conn.execute(_RUN).fetchone()
        run = None if row is None else RunRow(*row)
        return Latest(run, *_running(db), *_recent(db, run))


def reasons(db: Database, run_id: int) -> list[Reason]:
    """Return why jobs of a run are not done, the most frequent reason first."""
    rows = db.conn.execute(_SQL["reasons"].sql, {"run_id": run_id})
    return [Reason(Status(status), *others) for status, *others in rows]


def deaths(db: Database, run_id: int) -> int:
    """Return how often the model process crashed in a run while a job was on it."""
    return int(db.conn.execute(_CRASHES, (run_id,)).fetchone()[0])


def latest_stderr_tails(db: Database) -> list[str]:
    """Return what the model process wrote last before each crash of the latest run."""
    return [row[0] for row in db.conn.execute(_LATEST_STDERR)]


def _running(db: Database) -> tuple[tuple[RunningJob, ...], int]:
    """Return the jobs in slots, and how many more are claimed for them."""
    found = db.conn.execute(_SLOTS).fetchone()
    slots = 1 if found is None else int(found[0])
    claimed = int(db.conn.execute(_COUNT_RUNNING).fetchone()[0])
    running: list[RunningJob] = []
    taken = 0
    for row in db.conn.execute(_RUNNING, (slots,)).fetchall():
        if taken >= slots:
            break
        running.append(RunningJob(row["batch_id"], row["custom_id"], _upcoming(db, row)))
        taken += _open_choices(db, row)
    return tuple(running), claimed - len(running) if slots > 1 else 0


def _open_choices(db: Database, job: sqlite3.Row) -> int:
    """Return how many choices of a running job are not over: each takes a slot."""
    request = request_of(job["request"])
    if request.n == 1:
        return 1
    values = (job["id"], len(request.turns) + request.asks)
    return max(1, request.n - int(db.conn.execute(_CHOICES_OVER, values).fetchone()[0]))


def _upcoming(db: Database, job: sqlite3.Row) -> AttemptKey:
    """Return the attempt that a running job is at."""
    last = db.conn.execute(_LAST_OF_JOB, (job["id"],)).fetchone()
    if last is None:
        return AttemptKey()
    key = AttemptKey(*(last[name] for name in AttemptKey.__struct_fields__))
    if last["verdict"] == Verdict.RETRY:
        return replace(key, attempt=key.attempt + 1)
    request = request_of(job["request"])
    return _next(key, request, called=last["finish_reason"] == FinishReason.TOOL_CALLS)


def _next(completed: AttemptKey, request: Request, *, called: bool) -> AttemptKey:
    """Return the first attempt after a completed step; `called` says that it called a tool."""
    if called:
        return replace(completed, step=completed.step + 1, attempt=1)
    if completed.turn < len(request.turns) + request.asks:
        return AttemptKey(completed.choice, completed.turn + 1)
    return AttemptKey(completed.choice + 1)


def _recent(db: Database, run: RunRow | None) -> tuple[LastAttempt | None, Pace]:
    """Return the latest attempt and the pace of the latest ones, both of `run` alone."""
    rows, ended = _window(db, run, WINDOW)
    if not rows:
        return None, Pace(0, 0.0, None)
    last = LastAttempt(*(rows[0][name] for name in LastAttempt.__struct_fields__))
    if len(rows) == WINDOW and len(ended) < ENOUGH_JOBS:
        # long conversations: a job ends every hundred attempts or so
        rows, ended = _window(db, run, LONG_WINDOW)
    seconds = _seconds(rows[-1]["started_at"], rows[0]["finished_at"])
    decoded = sum(decoded_tokens(row["completion_tokens"]) for row in rows)
    speed = decode_speed(decoded, sum(row["machine_seconds"] for row in rows))
    return last, Pace(len(ended), seconds, speed)


def _window(db: Database, run: RunRow | None, most: int) -> tuple[list[sqlite3.Row], set[int]]:
    """Return up to so many of the latest attempts of a run, and the finished jobs among theirs."""
    values = {"run_id": run.id if run else 0, "window": most}
    rows = db.conn.execute(_SQL["recent"].sql, values).fetchall()
    return rows, {row["job_id"] for row in rows if row["status"] in FINISHED}


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
