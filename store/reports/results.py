"""Finished jobs as structs, streamed in the order of the input."""

import sqlite3
from collections.abc import Iterator, Sequence

from sqlite_utils import Database

from mh_batch.jobs.errors import UnknownTarget
from mh_batch.jobs.record import FinishedJob, FinishedTurn
from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot
from mh_batch.store.queue.history import attempt_key, metadata_of, parse_of, request_of

_READY = "SELECT id FROM batches WHERE state = 'ready' AND (?1 IS NULL OR id = ?1) ORDER BY id"
_OF_STATUS = "SELECT position, id FROM jobs WHERE batch_id = ? AND status = ?"
_JOB = """
SELECT j.*, b.name AS batch
FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
WHERE j.id = ? AND b.state = 'ready'
"""
# What a later turn saw has its first parse, as in the history; an answer that no later turn saw has
# its current one.
_TURNS = """
SELECT t.*, a.attempt, a.prompt_tokens, a.completion_tokens, length(a.opening) / 4 AS opened,
    m.machine_seconds, m.prefill_seconds, p.id AS parse_id, p.parser_version, p.rung,
    p.well_formed, p.problems
FROM turns AS t
JOIN attempts AS a ON a.id = t.accepted_attempt_id
JOIN timings AS m ON m.attempt_id = a.id
JOIN parses AS p ON p.id = CASE
    WHEN EXISTS (
        SELECT 1 FROM attempts AS later
        WHERE later.job_id = t.job_id AND later.choice = t.choice
            AND (later.turn, later.step) > (t.turn, t.step)
    ) THEN (SELECT min(id) FROM parses WHERE attempt_id = a.id)
    ELSE (SELECT id FROM parses WHERE attempt_id = a.id AND current = 1)
END
WHERE t.job_id = ?
ORDER BY t.choice, t.turn, t.step
"""
_CHOICES = """
SELECT EXISTS (
    SELECT 1 FROM jobs AS j JOIN turns AS t ON t.job_id = j.id
    WHERE j.batch_id = ? AND t.choice > 0
)
"""

_REPEATED = """
SELECT count(*) FROM (
    SELECT custom_id FROM jobs WHERE batch_id IN ({batches}) GROUP BY custom_id HAVING count(*) > 1
)
"""


def finished_jobs(
    db: Database, batch_id: int | None, statuses: Sequence[Status]
) -> Iterator[FinishedJob]:
    """Yield the jobs of `statuses` by batch and position, with flat memory.

    `batch_id` `None` stands for every batch. All jobs are read from one state of the database:
    until the iterator ends or is closed, the connection can do nothing else.
    """
    wanted = list(dict.fromkeys(status.value for status in statuses))
    if not wanted:
        return
    with snapshot(db):
        for (batch,) in db.conn.execute(_READY, (batch_id,)).fetchall():
            values = [value for status in wanted for value in (batch, status)]
            for row in db.conn.execute(in_order(len(wanted)), values):
                yield _finished(db, row["id"])


def finished_job(db: Database, job_id: int) -> FinishedJob:
    """Return one job in whatever status, with the turns it has; raises `UnknownTarget`."""
    with snapshot(db):
        return _finished(db, job_id)


def has_choices(db: Database, batch_id: int) -> bool:
    """Whether a job of the batch has more than one completion of its prompt."""
    return bool(db.conn.execute(_CHOICES, (batch_id,)).fetchone()[0])


def repeated_ids(db: Database, batch_ids: Sequence[int]) -> int:
    """Return how many `custom_id`s stand in more than one of the batches."""
    marks = ", ".join("?" * len(batch_ids))
    row = db.conn.execute(_REPEATED.format(batches=marks), tuple(batch_ids)).fetchone()
    return int(row[0])


def in_order(statuses: int) -> str:
    """Return the SQL for the jobs of a batch in several statuses, by position.

    Each status is a range of the index, in order; SQLite merges them without sorting.
    """
    return " UNION ALL ".join([_OF_STATUS] * statuses) + " ORDER BY position"


def _finished(db: Database, job_id: int) -> FinishedJob:
    job = db.conn.execute(_JOB, (job_id,)).fetchone()
    if job is None:
        raise UnknownTarget(f"no job {job_id}")
    turns = tuple(_turn(db, row) for row in db.conn.execute(_TURNS, (job_id,)))
    return FinishedJob(
        id=job["id"],
        batch_id=job["batch_id"],
        batch=job["batch"],
        position=job["position"],
        custom_id=job["custom_id"],
        status=Status(job["status"]),
        model=job["model"],
        request=request_of(job["request"]),
        metadata=metadata_of(job["metadata"]),
        error_code=job["error_code"],
        error=job["error"],
        finished_at=job["finished_at"],
        turns=turns,
    )


def _turn(db: Database, row: sqlite3.Row) -> FinishedTurn:
    return FinishedTurn(
        key=attempt_key(row),
        user=row["user"],
        final=row["final"],
        analysis=row["analysis"],
        finish_reason=row["finish_reason"],
        attempts=row["attempts"],
        rescued=bool(row["rescued"]),
        prompt_tokens=row["prompt_tokens"] - row["opened"],
        completion_tokens=row["opened"] + row["completion_tokens"],
        opened_tokens=row["opened"],
        parse=parse_of(db, row),
        machine_seconds=row["machine_seconds"],
        parsed=row["parsed"],
        prefill_seconds=row["prefill_seconds"],
    )
