"""What a page about one batch shows beside its numbers: a bounded number of rows of each kind."""

from typing import TypeVar

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot
from mh_batch.store.lookup import BatchRow
from mh_batch.store.reports.batches import BatchReport, batch_reports
from mh_batch.store.sql import entries, script

from .cookbook import recipe
from .results import finished_job
from .timings import TimingReport, timing_report

MOST_ROWS = 50
MOST_SLOW = 10


class Model(msgspec.Struct, frozen=True):
    """A model of the batch, and what its weights were."""

    model: str
    fingerprint: str


class Run(msgspec.Struct, frozen=True):
    """A run of the worker that worked at the batch; `None` for what it did not come to."""

    id: int
    model: str | None
    device: str | None
    started_at: str
    finished_at: str | None
    end_reason: str | None
    versions: str


class SlowJob(msgspec.Struct, frozen=True):
    """What one job cost the model, all attempts together."""

    job_id: int
    custom_id: str
    status: str
    attempts: int
    tokens: int
    model_seconds: float
    tokens_per_second: float | None
    longest_context: int


class UnsuccessfulJob(msgspec.Struct, frozen=True):
    """A job that is not done; `turn` and `attempts_of_that_turn` where its attempts ran out."""

    job_id: int
    batch_id: int
    custom_id: str
    status: str
    reason: str | None
    detail: str | None
    turn: int | None
    attempts_of_that_turn: int | None


class CrashRow(msgspec.Struct, frozen=True):
    """A death of the model process."""

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
    job_now: str
    stderr_tail: str


class BatchPage(msgspec.Struct, frozen=True):
    """One batch: how far it is, its numbers, and the jobs worth a look.

    `settings` is the JSON it was submitted with. `samples` are the first, the middle and the last
    job that is done, the same ones every time.
    """

    batch: BatchRow
    report: BatchReport
    timings: TimingReport
    settings: str
    models: tuple[Model, ...]
    runs: tuple[Run, ...]
    slowest: tuple[SlowJob, ...]
    unsuccessful: tuple[UnsuccessfulJob, ...]
    crashes: tuple[CrashRow, ...]
    samples: tuple[FinishedJob, ...]


def batch_page(db: Database, batch: BatchRow) -> BatchPage:
    """Return what there is to say of one batch: one state of the database."""
    with snapshot(db):
        asked = _Asked(db, batch.id)
        (report,) = batch_reports(db, batch.id)
        return BatchPage(
            batch=batch,
            report=report,
            timings=timing_report(db, batch.id),
            settings=asked.one("settings"),
            models=asked.rows("models", Model),
            runs=asked.rows("runs", Run),
            slowest=asked.rows("slowest", SlowJob, MOST_SLOW),
            unsuccessful=asked.recipe("unsuccessful", UnsuccessfulJob),
            crashes=asked.recipe("crashes", CrashRow),
            samples=tuple(
                finished_job(db, int(asked.one("nth_done", place)))
                for place in sample_places(report.counts[Status.DONE])
            ),
        )


def sample_places(count: int) -> tuple[int, ...]:
    """Return which of `count` jobs stand for all: the first, the middle and the last."""
    return tuple(sorted({0, count // 2, count - 1})) if count else ()


_T = TypeVar("_T")


class _Asked:
    """The statements of the file, and the cookbook's, for one batch."""

    def __init__(self, db: Database, batch_id: int) -> None:
        self._conn = db.conn
        self._batch = batch_id
        self._sql = entries(script("reports/batch_page.sql"))

    def one(self, name: str, place: int = 0) -> str:
        values = {"batch": self._batch, "place": place}
        return str(self._conn.execute(self._sql[name].sql, values).fetchone()[0])

    def rows(self, name: str, kind: type[_T], most: int = MOST_ROWS) -> tuple[_T, ...]:
        return self._convert(self._sql[name].sql, kind, most)

    def recipe(self, name: str, kind: type[_T]) -> tuple[_T, ...]:
        sql = f"SELECT * FROM ({recipe(name).sql}) WHERE batch_id = :batch LIMIT :most"
        return self._convert(sql, kind, MOST_ROWS)

    def _convert(self, sql: str, kind: type[_T], most: int) -> tuple[_T, ...]:
        found = self._conn.execute(sql, {"batch": self._batch, "most": most})
        return tuple(msgspec.convert(dict(row), kind) for row in found)
