"""What the drain learned of a job: an attempt and all that hangs on it are one transaction."""

import sys
from array import array
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import UnknownTarget
from mh_batch.jobs.generation import Parse, Timings
from mh_batch.jobs.record import Attempt, AttemptKey, Crash, JobEnd, Turn
from mh_batch.jobs.status import FINISHED, IllegalMove, Status, check_move
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot


def _insert(table: str, columns: Sequence[str], tail: str = "") -> str:
    """Return the SQL that inserts one row with `columns`."""
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {tail}"


TIMING_COLUMNS = Timings.__struct_fields__

_ATTEMPT_COLUMNS = (
    *("job_id", "choice", "turn", "step", "attempt", "run_id", "verdict", "retry_reason"),
    *("rescued", "seed", "prompt_tokens", "prompt_sha256", "dropped_turns", "completion_tokens"),
    *("finish_reason", "stop_reason", "started_at", "finished_at", "sampling", "tokens", "raw"),
    *("opening", "round", "continues", "room"),
)
_TURN_COLUMNS = (
    *("job_id", "choice", "turn", "step", "accepted_attempt_id", "attempts", "rescued"),
    *("complete", "finish_reason", "user", "final", "analysis"),
)
_PARSE_COLUMNS = ("attempt_id", "parser_version", "rung", "well_formed", "problems", "current")
_CHANNEL_COLUMNS = (
    *("parse_id", "attempt_id", "position", "channel", "recipient", "content_type", "text"),
)
_CRASH_COLUMNS = (
    *("job_id", "choice", "turn", "step", "attempt", "run_id", "at", "phase", "signal"),
    *("exit_code", "stderr_tail", "forgiven"),
)
_ATTEMPT = _insert("attempts", _ATTEMPT_COLUMNS, "RETURNING id")
_TURN = _insert("turns", _TURN_COLUMNS)
_PARSE = _insert("parses", _PARSE_COLUMNS, "RETURNING id")
_CHANNEL = _insert("channels", _CHANNEL_COLUMNS)
_TIMING = _insert("timings", ("attempt_id", *TIMING_COLUMNS))
_CRASH = _insert("crashes", _CRASH_COLUMNS)

_KEPT = """
SELECT id FROM attempts
WHERE job_id = ? AND choice = ? AND turn = ? AND step = ? AND attempt = ?
"""
_TOTALS = """
UPDATE batches
SET attempts = attempts + 1, retries = retries + ?,
    completion_tokens = completion_tokens + ?, decode_seconds = decode_seconds + ?
WHERE id = (SELECT batch_id FROM jobs WHERE id = ?)
"""
_REHEARSAL_BATCH = """
INSERT INTO batches (name, source, state, submitted_at, seed, settings)
VALUES ('', '', 'loading', ?, 0, '{}') RETURNING id
"""
_REHEARSAL_JOB = """
INSERT INTO jobs (batch_id, position, custom_id, status, request)
VALUES (?, 0, '', 'running', '{}') RETURNING id
"""
_STATUS = "SELECT status FROM jobs WHERE id = ?"
_END = """
UPDATE jobs SET status = ?, error_code = ?, error = ?, finished_at = ?, cancel_requested = 0
WHERE id = ?
"""
_IS_RESCUED = "SELECT EXISTS (SELECT 1 FROM turns WHERE job_id = ? AND rescued = 1)"
_COUNT_RESCUED = """
UPDATE batches SET rescued = rescued + 1 WHERE id = (SELECT batch_id FROM jobs WHERE id = ?)
"""
_RELEASE = "UPDATE jobs SET status = 'queued', run_id = NULL WHERE id = ?"
_CANCEL_IF_ASKED = """
UPDATE jobs SET status = 'cancelled', finished_at = ?, cancel_requested = 0
WHERE id = ? AND status = 'running' AND cancel_requested = 1
"""
# A model that dies while it is loaded, its chat template tried or not, dies of no job.
_DEATHS = """
SELECT count(*) FROM crashes
WHERE job_id = ? AND choice = ? AND turn = ? AND step = ? AND attempt = ?
    AND phase NOT IN ('load', 'template') AND NOT forgiven
"""


def record(
    db: Database, job_id: int, run_id: int, attempt: Attempt, turn: Turn | None, end: JobEnd | None
) -> int:
    """Record an attempt with its parse, channels and timings; return its id.

    `turn` is the step it settled, `None` if the step is still open; `end` how the job ended with
    it, `None` if it goes on. On disk, all of it, when this returns. Raises `IllegalMove` if the
    job may not end so, `sqlite3.IntegrityError` if the attempt is already there.
    """
    with immediate(db):
        attempt_id = _record(db, job_id, run_id, attempt, turn)
        if end is not None:
            _end(db, job_id, end)
    return attempt_id


def rehearse(db: Database, run_id: int, attempt: Attempt, turn: Turn | None) -> None:
    """Record an attempt of a job made for it, and undo all of that; raises what `record` raises."""
    with suppress(_Undo), immediate(db):
        batch_id = db.conn.execute(_REHEARSAL_BATCH, (now(),)).fetchone()[0]
        job_id = db.conn.execute(_REHEARSAL_JOB, (batch_id,)).fetchone()[0]
        _record(db, job_id, run_id, attempt, turn)
        raise _Undo


class _Undo(Exception):
    """Has the transaction of a rehearsal rolled back."""


def _record(db: Database, job_id: int, run_id: int, attempt: Attempt, turn: Turn | None) -> int:
    """Insert an attempt and all that hangs on it; part of the caller's transaction."""
    attempt_id = _record_attempt(db, job_id, run_id, attempt)
    add_parse(db, attempt_id, attempt.generation.parse)
    timings = attempt.generation.timings
    db.conn.execute(_TIMING, (attempt_id, *msgspec.structs.astuple(timings)))
    # where an attempt goes on with another, nothing is tried again
    retry = attempt.key.attempt > 1 and not attempt.continues
    tokens = len(attempt.generation.tokens)
    db.conn.execute(_TOTALS, (retry, tokens, timings.decode_seconds, job_id))
    if turn is not None:
        _record_turn(db, job_id, turn)
    return attempt_id


def finish(db: Database, job_id: int, end: JobEnd) -> None:
    """End a job for a reason that is no attempt; raises `IllegalMove` if it may not end so."""
    with immediate(db):
        _end(db, job_id, end)


def is_rescued(db: Database, job_id: int) -> bool:
    """Whether any answer that is kept of a job was forced from thoughts that had not ended."""
    with snapshot(db):
        return bool(db.conn.execute(_IS_RESCUED, (job_id,)).fetchone()[0])


def release(db: Database, job_id: int) -> Status:
    """Queue a running job again, as it stands, or cancel it if somebody asked for that.

    Returns its new status. Raises `IllegalMove` if it is not running.
    """
    with immediate(db):
        status = _status(db, job_id)
        if status is not Status.RUNNING:
            raise IllegalMove(f"a job that is {status} is in nobody's hands")
        if cancel_if_asked(db, job_id):
            return Status.CANCELLED
        db.conn.execute(_RELEASE, (job_id,))
    return Status.QUEUED


def cancel_if_asked(db: Database, job_id: int) -> bool:
    """Cancel a running job that somebody wants ended; return whether it was one.

    Part of the caller's transaction: a job that goes back to the queue would lose the request.
    """
    return bool(db.conn.execute(_CANCEL_IF_ASKED, (now(), job_id)).rowcount)


def record_crash(db: Database, job_id: int, run_id: int, crash: Crash) -> None:
    """Record that the model process died during an attempt; the attempt stays open."""
    key = msgspec.structs.astuple(crash.key)
    told = (now(), crash.phase, crash.signal, crash.exit_code, crash.stderr_tail)
    with immediate(db):
        db.conn.execute(_CRASH, (job_id, *key, run_id, *told, crash.forgiven))


def crashes_on(db: Database, job_id: int, key: AttemptKey) -> int:
    """Return how often in a row the model process died during the open attempt at `key`.

    Deaths under earlier workers count; those that are forgiven, those before the job was put back
    into the queue, and those while the model was loaded, do not.
    """
    values = (job_id, *msgspec.structs.astuple(key))
    return int(db.conn.execute(_DEATHS, values).fetchone()[0])


def add_parse(db: Database, attempt_id: int, parse: Parse) -> None:
    """Insert `parse` and its channels as the current one; part of the caller's transaction."""
    problems = msgspec.json.encode(parse.problems).decode()
    values = (attempt_id, parse.parser_version, parse.rung.value, parse.well_formed, problems, 1)
    parse_id = db.conn.execute(_PARSE, values).fetchone()[0]
    rows = [
        (parse_id, attempt_id, position, c.channel, c.recipient, c.content_type, c.text)
        for position, c in enumerate(parse.channels)
    ]
    db.conn.executemany(_CHANNEL, rows)


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Return token ids as uint32, little-endian."""
    packed = array("I", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_tokens(packed: bytes) -> tuple[int, ...]:
    """Return the token ids that `pack_tokens` packed."""
    tokens = array("I")
    tokens.frombytes(packed)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tuple(tokens)


def _record_attempt(db: Database, job_id: int, run_id: int, attempt: Attempt) -> int:
    made = attempt.generation
    values = (
        *(job_id, *msgspec.structs.astuple(attempt.key), run_id),
        *(attempt.verdict.value, attempt.retry_reason, attempt.rescued, attempt.seed),
        *(made.prompt_tokens, made.prompt_sha256, made.dropped_turns, len(made.tokens)),
        *(made.finish_reason.value, made.stop_reason.value),
        *(attempt.started_at, attempt.finished_at),
        *(msgspec.json.encode(attempt.sampling).decode(), pack_tokens(made.tokens), made.raw),
        *(pack_tokens(made.response_prefill), attempt.round, attempt.continues, made.room),
    )
    return int(db.conn.execute(_ATTEMPT, values).fetchone()[0])


def _record_turn(db: Database, job_id: int, turn: Turn) -> None:
    key = msgspec.structs.astuple(turn.key)
    kept = db.conn.execute(_KEPT, (job_id, *key)).fetchone()
    if kept is None:
        raise ValueError(f"job {job_id}: no attempt was recorded at {turn.key}")
    values = (
        *(job_id, *key[:3], kept[0]),
        *(turn.attempts, turn.rescued, turn.complete, turn.finish_reason),
        *(turn.user, turn.final, turn.analysis),
    )
    db.conn.execute(_TURN, values)


def _end(db: Database, job_id: int, end: JobEnd) -> None:
    check_move(_status(db, job_id), end.status)
    finished_at = now() if end.status in FINISHED else None
    db.conn.execute(_END, (end.status.value, end.error_code, end.error, finished_at, job_id))
    # a job that is done never leaves that status, so this total only grows
    if end.status is Status.DONE and is_rescued(db, job_id):
        db.conn.execute(_COUNT_RESCUED, (job_id,))


def _status(db: Database, job_id: int) -> Status:
    row = db.conn.execute(_STATUS, (job_id,)).fetchone()
    if row is None:
        raise UnknownTarget(f"no job {job_id}")
    return Status(row[0])
