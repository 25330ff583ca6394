"""Reads back what was recorded of a job, as the structs that were written."""

import sqlite3

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request
from mh_batch.jobs.generation import (
    Channel,
    FinishReason,
    Generation,
    Parse,
    ParserTier,
    StopReason,
    Timings,
    unpack_tokens,
)
from mh_batch.jobs.record import Attempt, AttemptKey, CompletedStep, History, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.store.connection import snapshot

from .recording import TIMING_COLUMNS

# The verdict was made on the first parse; a reparse changes no history.
_ATTEMPTS = """
SELECT a.*, p.id AS parse_id, p.parser_version, p.rung, p.well_formed, p.problems
FROM attempts AS a
JOIN parses AS p ON p.id = (SELECT min(id) FROM parses WHERE attempt_id = a.id)
WHERE a.job_id = ?
ORDER BY a.choice, a.turn, a.step, a.attempt
"""
_TIMINGS = f"SELECT {', '.join(TIMING_COLUMNS)} FROM timings WHERE attempt_id = ?"
_CHANNELS = """
SELECT channel, text, recipient, content_type FROM channels WHERE parse_id = ? ORDER BY position
"""
_TURNS = """
SELECT t.*, a.attempt
FROM turns AS t JOIN attempts AS a ON a.id = t.accepted_attempt_id
WHERE t.job_id = ?
ORDER BY t.choice, t.turn, t.step
"""


_metadata = msgspec.json.Decoder(msgspec.Raw)


def read_history(db: Database, job_id: int) -> History:
    """Return all attempts and completed steps of a job, in order; empty if there are none."""
    with snapshot(db):
        attempts = db.conn.execute(_ATTEMPTS, (job_id,)).fetchall()
        turns = db.conn.execute(_TURNS, (job_id,))
        return History(
            attempts=tuple(_attempt(db, row) for row in attempts),
            turns=tuple(_turn(row) for row in turns),
        )


def request_of(encoded: str) -> Request:
    """Return a stored request; an empty one if it cannot be read: its job fails then."""
    try:
        return msgspec.json.decode(encoded, type=Request)
    except msgspec.DecodeError:
        return Request()


def metadata_of(stored: str | None) -> msgspec.Raw | None:
    """Return stored metadata as it was written; `None` if there is none, or it is not JSON."""
    try:
        return None if stored is None else _metadata.decode(stored)
    except msgspec.DecodeError:
        return None


def attempt_key(row: sqlite3.Row) -> AttemptKey:
    """Build an `AttemptKey` from a row."""
    return AttemptKey(row["choice"], row["turn"], row["step"], row["attempt"])


def parse_of(db: Database, row: sqlite3.Row) -> Parse:
    """Build a `Parse` from a row with the columns of a parse and its `parse_id`."""
    channels = db.conn.execute(_CHANNELS, (row["parse_id"],))
    return Parse(
        parser_version=row["parser_version"],
        tier=ParserTier(row["rung"]),
        well_formed=bool(row["well_formed"]),
        problems=msgspec.json.decode(row["problems"], type=tuple[str, ...]),
        channels=tuple(Channel(*channel) for channel in channels),
    )


def _attempt(db: Database, row: sqlite3.Row) -> Attempt:
    timings = Timings(*db.conn.execute(_TIMINGS, (row["id"],)).fetchone())
    sampling = msgspec.json.decode(row["sampling"], type=Sampling)
    generation = Generation(
        tokens=unpack_tokens(row["tokens"]),
        raw=row["raw"],
        finish_reason=FinishReason(row["finish_reason"]),
        stop_reason=StopReason(row["stop_reason"]),
        parse=parse_of(db, row),
        prompt_tokens=row["prompt_tokens"],
        prompt_sha256=row["prompt_sha256"],
        timings=timings,
        # the stored sampling is what the attempt really had
        max_tokens=sampling.max_tokens,
        dropped_turns=row["dropped_turns"],
        response_prefill=unpack_tokens(row["opening"]),
        room=row["room"],
    )
    return Attempt(
        key=attempt_key(row),
        verdict=Verdict(row["verdict"]),
        retry_reason=row["retry_reason"],
        seed=row["seed"],
        sampling=sampling,
        generation=generation,
        rescued=bool(row["rescued"]),
        continues=bool(row["continues"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        round=row["round"],
        rejected=row["rejected"],
    )


def _turn(row: sqlite3.Row) -> CompletedStep:
    return CompletedStep(
        key=attempt_key(row),
        user=row["user"],
        final=row["final"],
        analysis=row["analysis"],
        finish_reason=row["finish_reason"],
        attempts=row["attempts"],
        rescued=bool(row["rescued"]),
        complete=bool(row["complete"]),
        parsed=row["parsed"],
    )
