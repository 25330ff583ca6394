"""Records what a drain did for a job: an attempt and all that belongs to it are one transaction."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.generation import Parse, Timings, pack_tokens
from mh_batch.jobs.record import Attempt, AttemptKey, CompletedStep, Crash, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot

from . import transitions


def _insert(table: str, columns: Sequence[str], tail: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) {tail}"


TIMING_COLUMNS = Timings.__struct_fields__

_ATTEMPT_COLUMNS = (
    *("job_id", "choice", "turn", "step", "attempt", "run_id", "verdict", "retry_reason"),
    *("rescued", "seed", "prompt_tokens", "prompt_sha256", "dropped_turns", "completion_tokens"),
    *("finish_reason", "stop_reason", "started_at", "finished_at", "sampling", "tokens", "raw"),
    *("opening", "round", "continues", "room", "rejected"),
)
_TURN_COLUMNS = (
    *("job_id", "choice", "turn", "step", "accepted_attempt_id", "attempts", "rescued"),
    *("complete", "finish_reason", "user", "final", "analysis", "parsed"),
)
_PARSE_COLUMNS = ("attempt_id", "parser_version", "rung", "well_formed", "problems", "current")
_CHANNEL_COLUMNS = (
    *("parse_id", "attempt_id", "position", "channel", "recipient", "content_type", "text"),
)
_CRASH_COLUMNS = (
    *("job_id", "choice", "turn", "step", "attempt", "run_id", "at", "phase", "signal"),
    *("exit_code", "stderr_tail", "forgiven", "alone"),
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
    completion_tokens = completion_tokens + ?, decode_seconds = decode_seconds + ?,
    machine_seconds = machine_seconds + ?
WHERE id = (SELECT batch_id FROM jobs WHERE id = ?)
"""
# from now on the batch keeps its number of slots on this model
_BEGUN = """
UPDATE batch_models SET begun = 1
WHERE (batch_id, model) = (SELECT batch_id, model FROM jobs WHERE id = ?) AND NOT begun
"""
_REHEARSAL_BATCH = """
INSERT INTO batches (name, source, state, submitted_at, seed, settings)
VALUES ('', '', 'loading', ?, 0, '{}') RETURNING id
"""
_REHEARSAL_JOB = """
INSERT INTO jobs (batch_id, position, custom_id, status, request)
VALUES (?, 0, '', 'running', '{}') RETURNING id
"""
_IS_RESCUED = "SELECT EXISTS (SELECT 1 FROM turns WHERE job_id = ? AND rescued = 1)"
_COUNT_RESCUED = """
UPDATE batches SET rescued = rescued + 1 WHERE id = (SELECT batch_id FROM jobs WHERE id = ?)
"""
# No job is to blame for a crash while the model or its chat template was loaded.
_CRASHES = """
SELECT count(*) FROM crashes
WHERE job_id = ? AND choice = ? AND turn = ? AND step = ? AND attempt = ?
    AND phase NOT IN ('load', 'template') AND NOT forgiven AND alone = ?
"""


def record(
    db: Database,
    job_id: int,
    run_id: int,
    attempt: Attempt,
    turn: CompletedStep | None,
    end: JobEnd | None,
) -> int:
    """Record an attempt with its parse, channels and timings; return its id.

    `turn` is the step that it completed, `None` if the step is still open; `end` how the job ended
    with it, `None` if it goes on. When this returns, all of it is on disk. Raises `IllegalMove` if
    the job may not end so, `sqlite3.IntegrityError` if the attempt is recorded already.
    """
    with immediate(db):
        attempt_id = _record(db, job_id, run_id, attempt, turn)
        if end is not None:
            _end(db, job_id, end)
    return attempt_id


def rehearse(db: Database, run_id: int, attempt: Attempt, turn: CompletedStep | None) -> None:
    """Record an attempt of a made-up job and undo it; raises what `record` raises."""
    with suppress(_Undo), immediate(db):
        batch_id = db.conn.execute(_REHEARSAL_BATCH, (now(),)).fetchone()[0]
        job_id = db.conn.execute(_REHEARSAL_JOB, (batch_id,)).fetchone()[0]
        _record(db, job_id, run_id, attempt, turn)
        raise _Undo


class _Undo(Exception):
    """Rolls back the transaction of a rehearsal."""


def _record(
    db: Database, job_id: int, run_id: int, attempt: Attempt, turn: CompletedStep | None
) -> int:
    """Insert an attempt and all that belongs to it; part of the caller's transaction."""
    attempt_id = _record_attempt(db, job_id, run_id, attempt)
    add_parse(db, attempt_id, attempt.generation.parse)
    timings = attempt.generation.timings
    db.conn.execute(_TIMING, (attempt_id, *msgspec.structs.astuple(timings)))
    # a continuation is no retry
    retry = attempt.key.attempt > 1 and not attempt.continues
    tokens = len(attempt.generation.tokens)
    seconds = (timings.decode_seconds, timings.machine_seconds)
    db.conn.execute(_TOTALS, (retry, tokens, *seconds, job_id))
    db.conn.execute(_BEGUN, (job_id,))
    if turn is not None:
        _record_turn(db, job_id, turn)
    return attempt_id


def finish(db: Database, job_id: int, end: JobEnd) -> None:
    """End a job for a reason that is no attempt; raises `IllegalMove` if it may not end so."""
    with immediate(db):
        _end(db, job_id, end)


def is_rescued(db: Database, job_id: int) -> bool:
    """Whether any kept answer of a job was forced from unfinished thoughts."""
    with snapshot(db):
        return bool(db.conn.execute(_IS_RESCUED, (job_id,)).fetchone()[0])


def record_crash(db: Database, job_id: int, run_id: int, crash: Crash) -> None:
    """Record that the model process crashed during an attempt; the attempt stays open."""
    record_crashes(db, run_id, ((job_id, crash),))


def record_crashes(db: Database, run_id: int, crashes: Iterable[tuple[int, Crash]]) -> None:
    """Record one crash of the model process, a row for each job that was in it.

    Their attempts stay open. Rows that are not `alone` have one time in common, by which reports
    tell that they are one crash.
    """
    at = now()
    rows = [
        (job_id, *msgspec.structs.astuple(crash.key), run_id, at, *_crash_facts(crash))
        for job_id, crash in crashes
    ]
    with immediate(db):
        db.conn.executemany(_CRASH, rows)


def crashes_on(db: Database, job_id: int, key: AttemptKey) -> int:
    """Return how often in a row the model process crashed during the open attempt at `key`.

    Crashes under earlier workers count; cleared ones, such as those before the job was queued
    again, those of attempts that did not run alone, and those while the model was loaded do not.
    """
    return _count_crashes(db, job_id, key, alone=True)


def shared_crashes_on(db: Database, job_id: int, key: AttemptKey) -> int:
    """Return in how many crashes the open attempt at `key` was one of several in the process.

    Any of these may be to blame. What counts is as in `crashes_on`, so an attempt is suspect after
    a restart too, until it is recorded or its job is queued again.
    """
    return _count_crashes(db, job_id, key, alone=False)


def _count_crashes(db: Database, job_id: int, key: AttemptKey, *, alone: bool) -> int:
    values = (job_id, *msgspec.structs.astuple(key), alone)
    return int(db.conn.execute(_CRASHES, values).fetchone()[0])


def _crash_facts(crash: Crash) -> tuple[str | int | None, ...]:
    """Return the values of a crash that do not say where and when it was."""
    died = (crash.phase, crash.signal, crash.exit_code, crash.stderr_tail)
    return (*died, crash.cleared, crash.alone)


def add_parse(db: Database, attempt_id: int, parse: Parse) -> None:
    """Insert `parse` and its channels as the current one; part of the caller's transaction."""
    problems = msgspec.json.encode(parse.problems).decode()
    values = (attempt_id, parse.parser_version, parse.tier.value, parse.well_formed, problems, 1)
    parse_id = db.conn.execute(_PARSE, values).fetchone()[0]
    rows = [
        (parse_id, attempt_id, position, c.channel, c.recipient, c.content_type, c.text)
        for position, c in enumerate(parse.channels)
    ]
    db.conn.executemany(_CHANNEL, rows)


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
        attempt.rejected,
    )
    return int(db.conn.execute(_ATTEMPT, values).fetchone()[0])


def _record_turn(db: Database, job_id: int, turn: CompletedStep) -> None:
    key = msgspec.structs.astuple(turn.key)
    kept = db.conn.execute(_KEPT, (job_id, *key)).fetchone()
    if kept is None:
        raise ValueError(f"job {job_id}: no attempt was recorded at {turn.key}")
    values = (
        *(job_id, *key[:3], kept[0]),
        *(turn.attempts, turn.rescued, turn.complete, turn.finish_reason),
        *(turn.user, turn.final, turn.analysis, turn.parsed),
    )
    db.conn.execute(_TURN, values)


def _end(db: Database, job_id: int, end: JobEnd) -> None:
    """End a job and count it; part of the caller's transaction."""
    transitions.end(db, job_id, end)
    # a job that is done never leaves that status, so this total only grows
    if end.status is Status.DONE and is_rescued(db, job_id):
        db.conn.execute(_COUNT_RESCUED, (job_id,))
