"""The figures of a queue at one moment: the same for every display, table and page.

Finished and queued jobs are counted by the store. A job is running if it is on the model: one that
its worker has claimed ahead is queued to a reader, and so is one whose worker died. The speed is
that of decoding, and the time left goes by the pace of the latest attempts.
"""

from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import replace
from sqlite_utils import Database

from mh_batch.jobs.status import FINISHED, OPEN, Status

from .batches import BatchReport, batch_reports
from .progress import ENOUGH_JOBS, Latest, Pace, RunningJob, latest

# By the index of statuses: the last job of each status tells which run finished the batch. (Where
# jobs ran in another order than that of their lines, over several runs, it may be another's.)
_LAST_RUN = """
SELECT max(run_id) FROM (
    SELECT (
        SELECT run_id FROM jobs WHERE batch_id = ?1 AND status = value
        ORDER BY position DESC LIMIT 1
    ) AS run_id
    FROM json_each(?2)
)
"""
_FINISHED = msgspec.json.encode(sorted(FINISHED)).decode()


class Figures(msgspec.Struct, frozen=True):
    """What is finished, running and queued, how fast it goes, and how long it takes.

    `batches` are those with unfinished jobs, first, and those that the latest run finished, else
    the last one. Their counts are those of a reader. `working` says whether there is a worker:
    without one nothing runs, and no speed and no time are known.
    """

    batches: tuple[BatchReport, ...]
    latest: Latest
    working: bool

    @property
    def running(self) -> tuple[RunningJob, ...]:
        """The jobs on the model."""
        return self.latest.running if self.working else ()

    @property
    def ahead(self) -> int:
        """How many jobs are read ahead for the slots."""
        return self.latest.ahead if self.working else 0

    @property
    def pace(self) -> Pace:
        """How fast the latest attempts of the worker were."""
        return self.latest.pace if self.working else Pace(0, 0.0, None)

    @property
    def finished(self) -> int:
        """How many jobs of the batches are finished."""
        return self._count(FINISHED)

    @property
    def queued(self) -> int:
        """How many jobs of the batches wait, claimed or not."""
        return self._count((Status.QUEUED,))

    @property
    def waiting(self) -> int:
        """How many jobs of the batches are not finished."""
        return self._count(OPEN)

    @property
    def tokens_per_second(self) -> float | None:
        """The decode speed now."""
        last = self.latest.last if self.working else None
        return None if last is None else last.tokens_per_second

    @property
    def seconds_left(self) -> float | None:
        """How long the unfinished jobs take."""
        return seconds_left(self.waiting, self.pace)

    def _count(self, statuses: Collection[Status]) -> int:
        return sum(report.count(statuses) for report in self.batches)


def seconds_left(waiting: int, pace: Pace) -> float | None:
    """Return how long so many jobs take at this pace.

    `None` until `ENOUGH_JOBS` are finished, and if no job waits.
    """
    if pace.jobs < ENOUGH_JOBS or not waiting:
        return None
    return waiting * pace.seconds / pace.jobs


def figures_of(
    reports: Sequence[BatchReport], chosen: Collection[int], found: Latest, *, working: bool
) -> Figures:
    """Return the figures of the `chosen` batches; `found` may be newer than the `reports`."""
    shown = [r for r in as_seen(reports, found, working=working) if r.id in chosen]
    shown.sort(key=lambda report: (not report.count(OPEN), report.id))
    return Figures(tuple(shown), found, working)


def latest_batches(db: Database, reports: Sequence[BatchReport], found: Latest) -> frozenset[int]:
    """Return the batches with unfinished jobs and those of the latest run, else the last one."""
    run = None if found.run is None else found.run.id
    chosen = [r.id for r in reports if r.count(OPEN) or (run and _last_run(db, r.id) == run)]
    return frozenset(chosen or [report.id for report in reports[-1:]])


def as_seen(
    reports: Sequence[BatchReport], found: Latest, *, working: bool
) -> tuple[BatchReport, ...]:
    """Return the reports with the counts of a reader: what is not on the model is queued."""
    on_model = [job.batch_id for job in found.running] if working else []
    return tuple(_seen(report, on_model.count(report.id)) for report in reports)


def batch_as_seen(db: Database, batch_id: int, *, working: bool) -> BatchReport:
    """Return the report of one batch with the counts of a reader."""
    (report,) = as_seen(batch_reports(db, batch_id), latest(db), working=working)
    return report


def _seen(report: BatchReport, running: int) -> BatchReport:
    claimed = report.counts.get(Status.RUNNING, 0)
    running = min(claimed, running)
    if claimed == running:
        return report
    queued = report.counts.get(Status.QUEUED, 0) + claimed - running
    moved = {Status.QUEUED: queued, Status.RUNNING: running}
    return replace(report, counts={**report.counts, **moved})


def _last_run(db: Database, batch_id: int) -> int | None:
    """Return the latest run that finished a job of a batch, as far as that is quickly known."""
    row = db.conn.execute(_LAST_RUN, (batch_id, _FINISHED)).fetchone()
    return None if row[0] is None else int(row[0])
