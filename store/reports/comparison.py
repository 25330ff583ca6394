"""The content of the page about two batches: their numbers, and the same prompts in pairs."""

from typing import TypeVar

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot
from mh_batch.store.lookup import BatchRow
from mh_batch.store.sql import statements

from .batch_page import Model, batch_models
from .batches import BatchReport
from .figures import batch_as_seen
from .results import finished_job
from .timings import TimingReport, timing_report

T = TypeVar("T")
MOST_PAIRS = 20
"""How many pairs are shown of each kind: another outcome, another answer, the same answer."""


class Cost(msgspec.Struct, frozen=True):
    """What some attempts cost; `tokens_per_second` is `None` if nothing was decoded."""

    attempts: int = 0
    tokens: int = 0
    model_seconds: float = 0.0
    tokens_per_second: float | None = None


class Outcomes(msgspec.Struct, frozen=True):
    """How many `pairs` ended with these two statuses.

    Of them, `same_answers` have the same texts in every turn, and in `other_prompts` the two jobs
    have the same `custom_id` and different prompts.
    """

    a_status: Status
    b_status: Status
    pairs: int
    same_answers: int
    other_prompts: int


class Side(msgspec.Struct, frozen=True):
    """One of the two batches; `paired` is what the jobs that are in pairs cost."""

    batch: BatchRow
    report: BatchReport
    timings: TimingReport
    settings: str
    models: tuple[Model, ...]
    paired: Cost


class PairedJob(msgspec.Struct, frozen=True):
    """One job of a pair, and what all its attempts cost."""

    job: FinishedJob
    cost: Cost


class Pair(msgspec.Struct, frozen=True):
    """Two jobs with the same prompt, or the same `custom_id`."""

    a: PairedJob
    b: PairedJob
    same_answer: bool
    same_prompt: bool


class Comparison(msgspec.Struct, frozen=True):
    """Two batches: how the pairs ended, and some of them to read, other outcomes first."""

    a: Side
    b: Side
    outcomes: tuple[Outcomes, ...]
    pairs: tuple[Pair, ...]

    @property
    def paired(self) -> int:
        """How many pairs there are."""
        return sum(row.pairs for row in self.outcomes)


class _SideCost(Cost, frozen=True, kw_only=True):
    batch_id: int


class _Shown(msgspec.Struct, frozen=True):
    a: int
    b: int
    kind: int
    same_answer: bool
    same_prompt: bool


class _Queries:
    """The statements of the file for two batches."""

    def __init__(self, db: Database, a: int, b: int) -> None:
        self._conn = db.conn
        self._values = {"a": a, "b": b}
        self._found = statements("reports/comparison.sql")

    def rows(self, name: str, kind: type[T], **values: int) -> tuple[T, ...]:
        """Return the rows of a statement over the pairs as structs of `kind`."""
        sql = f"{self._found['pairs'].sql}{self._found[name].sql}"
        cursor = self._conn.execute(sql, {**self._values, **values})
        return tuple(msgspec.convert(dict(row), kind, strict=False) for row in cursor)

    def cost(self, job_id: int) -> Cost:
        """Return what all attempts of a job cost."""
        row = self._conn.execute(self._found["cost"].sql, {"job": job_id}).fetchone()
        return msgspec.convert(dict(row), Cost)


def comparison(db: Database, a: BatchRow, b: BatchRow, *, working: bool = False) -> Comparison:
    """Return the content of the page about two batches, all from one state of the database.

    `working` says whether a worker runs.
    """
    with snapshot(db):
        queries = _Queries(db, a.id, b.id)
        paired = {row.batch_id: row for row in queries.rows("speeds", _SideCost)}
        return Comparison(
            a=_side(db, a, paired.get(a.id, Cost()), working=working),
            b=_side(db, b, paired.get(b.id, Cost()), working=working),
            outcomes=queries.rows("outcomes", Outcomes),
            pairs=tuple(
                Pair(
                    PairedJob(finished_job(db, row.a), queries.cost(row.a)),
                    PairedJob(finished_job(db, row.b), queries.cost(row.b)),
                    row.same_answer,
                    row.same_prompt,
                )
                for row in queries.rows("shown", _Shown, most=MOST_PAIRS)
            ),
        )


def _side(db: Database, batch: BatchRow, paired: Cost, *, working: bool) -> Side:
    report = batch_as_seen(db, batch.id, working=working)
    settings, models = batch_models(db, batch.id)
    return Side(batch, report, timing_report(db, batch.id), settings, models, paired)
