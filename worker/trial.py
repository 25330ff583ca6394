"""`submit --check --trial N`: some lines answered by a real worker, in a database of its own.

The database is in a temporary folder: nothing of it is left, whatever ends the trial.
"""

import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import msgspec
from msgspec.structs import replace

from mh_batch.jobs.errors import Interrupted
from mh_batch.jobs.record import FinishedJob, JobLine, NewBatch
from mh_batch.jobs.status import FINISHED
from mh_batch.store.connection import open_reader, open_store
from mh_batch.store.queue.submit import Submission
from mh_batch.store.reports.estimate import ThroughputEstimate, throughput_estimate
from mh_batch.store.reports.results import finished_jobs

from .draining.run import Outcome, work_until_stopped
from .options import DrainOptions, WorkerSettings, shared_fields
from .progress.plain_display import PlainDisplay
from .text.console import shortened
from .text.format import printable

HEAD = 72
"""How much of an answer is shown."""


class Tried(msgspec.Struct, frozen=True):
    """What a trial found: the jobs, and the throughput of each model that has one."""

    jobs: tuple[FinishedJob, ...]
    throughput: dict[str, ThroughputEstimate]

    def lines(self, source: str) -> Iterator[str]:
        """Yield the lines to print about the answers."""
        for job in self.jobs:
            text = job.error if job.final is None else job.final
            head = shortened(printable(" ".join((text or "").split())), HEAD)
            yield f"  {source}:{job.position}: {job.status}: {head}"


def run_trial(
    batch: NewBatch, lines: Sequence[JobLine], settings: WorkerSettings, model: str | None
) -> Tried:
    """Answer these lines of a batch one at a time, and measure that; nothing is kept.

    `settings` are those of a worker, `model` is for lines and batches that name none. Raises
    `Interrupted` if it is stopped, and the fault that keeps a worker from going on.
    """
    with tempfile.TemporaryDirectory(prefix="mh-batch-trial-") as folder:
        db = Path(folder) / "trial.db"
        with (
            closing(open_store(db)) as store,
            Submission.begin(store, replace(batch, name="trial")) as submission,
        ):
            submission.add(list(lines))
            submission.publish("trial")
        values = {**shared_fields(settings, WorkerSettings), "parallel": 1, "artifacts": "off"}
        options = DrainOptions(db, model, Path(folder) / "logs", **values)
        if anyio.run(_drain, options).stopped:
            raise Interrupted(f"{batch.source}: the trial was stopped; nothing of it is kept")
        return _tried(db)


async def _drain(options: DrainOptions) -> Outcome:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        return await work_until_stopped(options, PlainDisplay(sys.stderr), _Twice(signals))


class _Twice:
    """Each signal twice, which ends a drain at once: nothing of a trial is worth waiting for.

    No generator, which would be over for good once somebody who waits for it is cancelled.
    """

    def __init__(self, signals: AsyncIterator[object]) -> None:
        self._signals = signals
        self._again: object = None

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        again, self._again = self._again, None
        if again is None:
            again = self._again = await anext(self._signals)
        return again


def _tried(db: Path) -> Tried:
    with closing(open_reader(db)) as reader:
        jobs = tuple(finished_jobs(reader, None, sorted(FINISHED)))
        found = {
            model: past
            for model in {job.model for job in jobs if job.model is not None}
            if (past := throughput_estimate(reader, model)) is not None
        }
    return Tried(jobs, found)
