"""What a drain shows: a live picture in a terminal, plain lines anywhere else."""

import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from msgspec.structs import replace
from rich.console import Console

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.worker.text.escape import visible
from mh_batch.worker.text.format import count, duration, printable, with_rescued

from .dashboard import ENOUGH_JOBS, Attempting, Snapshot, lines
from .live_region import LiveRegion
from .poller import Poller

if TYPE_CHECKING:
    from mh_batch.worker.draining.reporter import Tally

PLAIN_SECONDS = 10.0
PAINT_SECONDS = 0.25
LOOK_EVERY = 2
"""How many paintings to one look at the database."""


class Summary:
    """Done, total, speed and time left, from what the drain told so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.jobs = 0
        self.waiting: int | None = None
        self.unsuccessful = 0
        self.rescued = 0
        self.tokens_per_second: float | None = None

    def take(self, tally: "Tally", waiting: int) -> None:
        """Bring the figures up to date."""
        self.jobs, self.waiting = tally.jobs, waiting
        self.tokens_per_second = tally.tokens_per_second
        self.unsuccessful = tally.not_well
        self.rescued = tally.rescued

    def line(self) -> str:
        """Return the progress line."""
        if self.waiting is None or not self.jobs:
            return "0 done"
        parts = [f"{self.jobs}/{count(self.jobs + self.waiting, 'job')}"]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:.0f} tok/s")
        if self.jobs >= ENOUGH_JOBS or not self.waiting:
            left = (time.monotonic() - self.started) / self.jobs * self.waiting
            parts.append(f"{duration(left)} left")
        if self.unsuccessful:
            parts.append(f"{self.unsuccessful} failed or incomplete")
        if self.rescued:
            parts.append(with_rescued(self.rescued))
        return ", ".join(parts)


def end_line(job: ClaimedJob, end: JobEnd) -> str:
    """Return how a job ended that did not go well."""
    return f"{printable(job.custom_id)}: {end.status} ({end.error_code}): {end.error}"


class PlainDisplay:
    """Lines for a pipe or a log file: notes as they come, the progress every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._summary = Summary()
        self._last = time.monotonic()

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Print it; a reader that went away must not end the night."""
        with suppress(OSError):
            print(visible(text), file=self._out, flush=True)

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Nothing: a line an attempt is too much."""

    def tokens(self, count: int) -> None:
        """Nothing: plain output tells of finished jobs only."""

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """Print the progress, at most every few seconds and at the end of the queue."""
        self._summary.take(tally, waiting)
        if end.error:
            self.note(end_line(job, end))
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or not waiting:
            self._last = now
            self.note(self._summary.line())


class LiveDisplay:
    """A picture in a terminal that is rewritten in place; notes scroll above it.

    The queue is read from the database by a thread of its own, as any other reader would, so that
    the drain neither waits for it nor has to tell more than what is not written yet.
    """

    def __init__(self, console: Console, db: Path) -> None:
        self._screen = LiveRegion(console)
        self._db = db
        self._over = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="display", daemon=True)
        self._attempting: Attempting | None = None
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> "LiveDisplay":
        self._screen.open()
        self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._painter.join()
        self._screen.close()

    def note(self, text: str) -> None:
        """Print it above the picture."""
        self._screen.say(text)

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Show which conversation, turn and attempt is running."""
        self._first = None
        self._attempting = Attempting(job.custom_id, key, tokens=0)

    def tokens(self, count: int) -> None:
        """Show how far the running attempt is, and how fast since it was first heard of."""
        attempting, now = self._attempting, time.monotonic()
        if attempting is None:
            return
        self._first = self._first or (now, count)
        since, before = self._first
        speed = (count - before) / (now - since) if now > since else None
        self._attempting = replace(attempting, tokens=count, tokens_per_second=speed)

    def job_ended(
        self,
        job: ClaimedJob,
        end: JobEnd,
        tally: "Tally",  # noqa: ARG002
        waiting: int,  # noqa: ARG002
    ) -> None:
        """Tell of a job that did not go well; the rest is in the database."""
        if end.error:
            self.note(end_line(job, end))

    def _paint(self) -> None:
        """Look and paint until it is over; the bars as they are then stay on the screen."""
        observer = Poller(self._db)
        ticks = 0
        while not self._over.wait(PAINT_SECONDS):
            if ticks % LOOK_EVERY == 0:
                with suppress(StoreUnusable):
                    observer.look()
            ticks += 1
            self._show(replace(observer.picture, attempting=self._attempting))
        with suppress(StoreUnusable):
            observer.look(whole=True)
        observer.close()
        self._show(Snapshot(batches=observer.picture.batches))

    def _show(self, picture: Snapshot) -> None:
        size = self._screen.console.size
        now = datetime.now().astimezone()
        self._screen.show(lines(picture, size.width, size.height, now))


def open_display(db: Path) -> "LiveDisplay | PlainDisplay":
    """Return the display that suits standard error: live in a terminal, else plain."""
    if sys.stderr.isatty():
        return LiveDisplay(Console(stderr=True), db)
    return PlainDisplay(sys.stderr)
