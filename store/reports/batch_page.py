"""The content of the page about one batch: its numbers, and some rows of each kind."""

from typing import Literal

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.store.connection import snapshot
from mh_batch.store.lookup import BatchRow
from mh_batch.store.sql import BatchQueries, statements

from .batches import BatchReport
from .figures import batch_as_seen
from .query import recipe
from .results import finished_job
from .timings import TimingReport, timing_report

MOST_ROWS = 50
MOST_SLOW = 10


class Model(msgspec.Struct, frozen=True):
    """A model of the batch, the fingerprint of its weights, and its own sampling defaults.

    `defaults` is the JSON of those that fill what the batch left open, `None` for none.
    """

    model: str
    fingerprint: str
    defaults: str | None = None


class ModelSlots(msgspec.Struct, frozen=True):
    """A number of slots that attempts of the batch on a model decoded in."""

    model: str
    parallel: int


class Run(msgspec.Struct, frozen=True):
    """A run of the worker that had jobs of the batch; `None` for what it did not reach.

    `parallel` is the worker's number of slots, `slots` that of the batch, of which `rows` were busy
    on average. `allow_variance` is 1 if slots were used although a self-test failed. After crashes
    that no single conversation was to blame for, at most `most_rows` were decoded at once; `None`
    for as many as slots.
    """

    id: int
    model: str | None
    device: str | None
    started_at: str
    finished_at: str | None
    end_reason: str | None
    versions: str
    parallel: int
    allow_variance: int
    most_rows: int | None
    slots: int | None = None
    rows: float | None = None


class SlowJob(msgspec.Struct, frozen=True):
    """What the attempts of one job cost together."""

    job_id: int
    custom_id: str
    status: str
    attempts: int
    tokens: int
    model_seconds: float
    tokens_per_second: float | None
    longest_context: int


class UnsuccessfulJob(msgspec.Struct, frozen=True):
    """A job that is not done; `turn` and `attempts_of_that_turn` say where its attempts ran out."""

    job_id: int
    batch_id: int
    custom_id: str
    status: str
    reason: str | None
    detail: str | None
    turn: int | None
    attempts_of_that_turn: int | None


class CrashRow(msgspec.Struct, frozen=True):
    """A crash of the model process during an attempt; `alone` is 0 if others were beside it."""

    at: str
    run_id: int
    job_id: int
    batch_id: int
    custom_id: str
    turn: int
    attempt: int
    phase: str
    signal: int | None
    exit_code: int | None
    alone: int
    job_now: str
    stderr_tail: str


class SampleJob(msgspec.Struct, frozen=True):
    """A job to read, one of `jobs_like_it` of its `kind`.

    `good` is done at the first attempts of its turns, `retried` after others were thrown away,
    `rescued` with an answer forced from unfinished thoughts; `incomplete` is not done.
    """

    kind: Literal["good", "rescued", "retried", "incomplete"]
    jobs_like_it: int
    job: FinishedJob


class _SampleRow(msgspec.Struct, frozen=True):
    job_id: int
    kind: Literal["good", "rescued", "retried", "incomplete"]
    jobs_like_it: int


class BatchPage(msgspec.Struct, frozen=True):
    """One batch: its progress, its numbers, and the jobs worth a look.

    `settings` is the JSON it was submitted with. `samples` are the first and the last job of each
    kind, the same ones every time. `slots` has more than one row for a model if `mix`
    replaced the number that the batch began with; the first is that one.
    """

    batch: BatchRow
    report: BatchReport
    timings: TimingReport
    settings: str
    models: tuple[Model, ...]
    slots: tuple[ModelSlots, ...]
    runs: tuple[Run, ...]
    slowest: tuple[SlowJob, ...]
    unsuccessful: tuple[UnsuccessfulJob, ...]
    crashes: tuple[CrashRow, ...]
    samples: tuple[SampleJob, ...]


def batch_page(db: Database, batch: BatchRow, *, working: bool = False) -> BatchPage:
    """Return the content of the page about `batch`, all of it from one state of the database.

    `working` says whether a worker runs.
    """
    with snapshot(db):
        queries = _queries(db, batch.id)
        report = batch_as_seen(db, batch.id, working=working)
        return BatchPage(
            batch=batch,
            report=report,
            timings=timing_report(db, batch.id),
            settings=queries.value("settings"),
            models=queries.rows("models", Model, most=MOST_ROWS),
            slots=queries.rows("slots", ModelSlots, most=MOST_ROWS),
            runs=queries.rows("runs", Run, most=MOST_ROWS),
            slowest=queries.rows("slowest", SlowJob, most=MOST_SLOW),
            unsuccessful=queries.rows("unsuccessful", UnsuccessfulJob, most=MOST_ROWS),
            crashes=queries.rows("crashes", CrashRow, most=MOST_ROWS),
            samples=tuple(
                SampleJob(row.kind, row.jobs_like_it, finished_job(db, row.job_id))
                for row in queries.rows("samples", _SampleRow)
            ),
        )


def batch_models(db: Database, batch_id: int) -> tuple[str, tuple[Model, ...]]:
    """Return the settings that a batch was submitted with, as JSON, and its models."""
    queries = _queries(db, batch_id)
    return queries.value("settings"), queries.rows("models", Model, most=MOST_ROWS)


def _queries(db: Database, batch_id: int) -> BatchQueries:
    """Return the statements of the file, and two of the cookbook, for one batch."""
    sql = {name: entry.sql for name, entry in statements("reports/batch_page.sql").items()}
    for name in ("unsuccessful", "crashes"):
        all_batches = f"SELECT * FROM ({recipe(name).sql})"
        sql[name] = f"{all_batches} WHERE batch_id = :batch LIMIT :most"
    return BatchQueries(db, batch_id, sql)
