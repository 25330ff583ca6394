"""What the displays show of a queue, as values."""

from __future__ import annotations

import msgspec

from mh_batch.jobs.record import AttemptKey
from mh_batch.jobs.status import FINISHED, NOT_WELL
from mh_batch.store.reports import figures
from mh_batch.store.reports.batches import BatchReport
from mh_batch.store.reports.progress import LastAttempt, Pace


class Attempting(msgspec.Struct, frozen=True):
    """A running attempt; no `tokens` means that this process cannot know their number."""

    custom_id: str
    key: AttemptKey
    tokens: int | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that is shown.

    `batches` are the batches to show, `waiting` counts the unfinished jobs of all. `attempting` are
    the attempts in slots, `ahead` counts those whose prompts are read meanwhile.
    `tokens_per_second` is the decode speed of all of them together; `last` is the latest finished
    one; `None` for what is not known. `remark` is a line for the reader.
    """

    batches: tuple[BatchReport, ...] = ()
    waiting: int = 0
    attempting: tuple[Attempting, ...] = ()
    ahead: int = 0
    tokens_per_second: float | None = None
    last: LastAttempt | None = None
    pace: Pace = Pace(0, 0.0, None)
    remark: str | None = None

    @property
    def finished(self) -> int:
        """How many jobs of the batches shown are finished."""
        return sum(batch.count(FINISHED) for batch in self.batches)

    @property
    def unsuccessful(self) -> int:
        """How many of them failed or are incomplete."""
        return sum(batch.count(NOT_WELL) for batch in self.batches)

    @property
    def rescued(self) -> int:
        """How many jobs of the batches shown are done with rescued answers."""
        return sum(batch.rescued for batch in self.batches)

    @property
    def retries(self) -> int:
        """How many attempts of the batches shown were retries."""
        return sum(batch.retries for batch in self.batches)


def seconds_left(snapshot: Snapshot) -> float | None:
    """Return how long the unfinished jobs take at the pace of the latest ones.

    `None` until `ENOUGH_JOBS` are finished, and if no job is unfinished.
    """
    return figures.seconds_left(snapshot.waiting, snapshot.pace)


def snapshot_of(found: figures.Figures) -> Snapshot:
    """Return what is shown of the figures of a queue."""
    return Snapshot(
        batches=found.batches,
        waiting=found.waiting,
        attempting=tuple(Attempting(job.custom_id, job.key) for job in found.running),
        ahead=found.ahead,
        tokens_per_second=found.tokens_per_second,
        last=found.latest.last if found.working else None,
        pace=found.pace,
    )
