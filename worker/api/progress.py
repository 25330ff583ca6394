"""How far a drain is, for a function of the program that called it."""

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

import msgspec

from mh_batch.jobs.record import ClaimedJob, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.progress.plain_display import PlainDisplay


class Progress(msgspec.Struct, frozen=True):
    """How far a drain is after a finished job.

    `custom_id` is that job's, `status` how it ended. `jobs` are finished so far, `ended` by status,
    and `waiting` are still queued. `tokens` counts all generated ones, retries included;
    `tokens_per_second` is the decode speed, `None` if nothing was decoded. `rescued` of the done
    jobs have a forced final answer. The drain began `seconds` ago.
    """

    custom_id: str
    status: Status
    jobs: int
    waiting: int
    ended: Mapping[Status, int]
    tokens: int
    tokens_per_second: float | None
    rescued: int
    seconds: float


OnProgress = Callable[[Progress], object]


class ProgressDisplay(PlainDisplay):
    """Prints what a drain reports, and passes its progress on with `put`."""

    def __init__(self, out: TextIO, db: Path, put: Callable[[Progress], None]) -> None:
        super().__init__(out, db)
        self._put = put
        self._began = time.monotonic()

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: Tally, waiting: int) -> None:
        """Pass the progress on."""
        super().job_ended(job, end, tally, waiting)
        progress = Progress(
            custom_id=job.custom_id,
            status=end.status,
            jobs=tally.jobs,
            waiting=waiting,
            ended=dict(tally.ended),
            tokens=tally.tokens,
            tokens_per_second=tally.tokens_per_second,
            rescued=tally.rescued,
            seconds=time.monotonic() - self._began,
        )
        self._put(progress)


class Listener:
    """Calls a function with the progress, until it raises once: that must not end a drain."""

    def __init__(self, function: OnProgress | None) -> None:
        self._function = function

    def tell(self, progress: Progress) -> None:
        """Call the function; warn about its first error, and call it no more."""
        if self._function is None:
            return
        try:
            self._function(progress)
        except Exception as error:  # noqa: BLE001  # whatever it is, the drain goes on
            self._function = None
            warnings.warn(
                f"on_progress is called no more: {type(error).__name__}: {error}", stacklevel=2
            )
