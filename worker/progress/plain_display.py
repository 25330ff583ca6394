"""The display of a drain in a pipe or a log file: plain lines."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import format_count, format_duration, format_rescued, printable

from .snapshot import ENOUGH_JOBS

if TYPE_CHECKING:
    from mh_batch.worker.draining.reporter import Tally

PLAIN_SECONDS = 10.0


class ProgressLine:
    """A line with jobs done, total, speed and time left, from what the drain has reported."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.jobs = 0
        self.waiting: int | None = None
        self.unsuccessful = 0
        self.rescued = 0
        self.tokens_per_second: float | None = None

    def take(self, tally: "Tally", waiting: int) -> None:
        """Update the figures."""
        self.jobs, self.waiting = tally.jobs, waiting
        self.tokens_per_second = tally.tokens_per_second
        self.unsuccessful = tally.not_well
        self.rescued = tally.rescued

    def line(self) -> str:
        """Return the progress line."""
        if self.waiting is None or not self.jobs:
            return "0 done"
        parts = [f"{self.jobs}/{format_count(self.jobs + self.waiting, 'job')}"]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.0f} tok/s")
        if self.jobs >= ENOUGH_JOBS or not self.waiting:
            left = (time.monotonic() - self.started) / self.jobs * self.waiting
            parts.append(f"{format_duration(left)} left")
        if self.unsuccessful:
            parts.append(f"{self.unsuccessful} failed or incomplete")
        if self.rescued:
            parts.append(format_rescued(self.rescued))
        return ", ".join(parts)


def end_line(job: ClaimedJob, end: JobEnd) -> str:
    """Return the line about a failed or incomplete job."""
    return f"{printable(job.custom_id)}: {end.status} ({end.error_code}): {end.error}"


class PlainDisplay:
    """Prints notes as they come, and the progress every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._progress = ProgressLine()
        self._last = time.monotonic()

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Print a note; a closed pipe must not end the drain."""
        with suppress(OSError):
            print(escape_controls(text), file=self._out, flush=True)

    def stopping(self, wait: Callable[[], object]) -> None:
        """Print nothing more than the note about it."""

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Print nothing: one line per attempt is too much."""

    def tokens(self, job: ClaimedJob, key: AttemptKey, count: int) -> None:
        """Print nothing: plain output is about finished jobs only."""

    def attempt_ended(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Print nothing, as above."""

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """Print an error, and the progress every few seconds and at the end of the queue."""
        self._progress.take(tally, waiting)
        if end.error:
            self.note(end_line(job, end))
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or not waiting:
            self._last = now
            self.note(self._progress.line())
