"""What a drain shows: one live line in a terminal, plain lines anywhere else."""

import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mh_batch.jobs.record import ClaimedJob, JobEnd, Place
from mh_batch.jobs.status import UNSUCCESSFUL

if TYPE_CHECKING:
    from .drain import Tally

PLAIN_SECONDS = 10.0


class Display(Protocol):
    """What the drain tells while it works, between entering and leaving it."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        """Something a person should read."""

    def attempt_started(self, job: ClaimedJob, place: Place) -> None:
        """An attempt goes to the model."""

    def tokens(self, count: int) -> None:
        """The running attempt has `count` completion tokens so far."""

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """A job was finished; `waiting` jobs are still queued."""


class Summary:
    """Done, total, speed and time left, from what the drain told so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.jobs = 0
        self.waiting: int | None = None
        self.unsuccessful = 0
        self.decoded_tokens = 0
        self.decode_seconds = 0.0

    def take(self, tally: "Tally", waiting: int) -> None:
        """Bring the figures up to date."""
        self.jobs, self.waiting = tally.jobs, waiting
        self.decoded_tokens, self.decode_seconds = tally.decoded_tokens, tally.decode_seconds
        self.unsuccessful = sum(tally.ended.get(status, 0) for status in UNSUCCESSFUL)

    def line(self) -> str:
        """Return the progress line."""
        if self.waiting is None or not self.jobs:
            return "0 done"
        parts = [f"{self.jobs}/{self.jobs + self.waiting} jobs"]
        if self.decode_seconds:
            parts.append(f"{self.decoded_tokens / self.decode_seconds:.0f} tok/s")
        left = (time.monotonic() - self.started) / self.jobs * self.waiting
        parts.append(f"{duration(left)} left")
        if self.unsuccessful:
            parts.append(f"{self.unsuccessful} failed or incomplete")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration as people write it: `0:42`, `5:00`, `1:05:00`, `2 days, 3:00:00`."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


def end_line(job: ClaimedJob, end: JobEnd) -> str:
    """Return how a job ended that did not go well."""
    return f"{job.custom_id}: {end.status} ({end.error_code}): {end.error}"


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
            print(text, file=self._out, flush=True)

    def attempt_started(self, job: ClaimedJob, place: Place) -> None:
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
    """One line in a terminal that is rewritten in place; notes scroll above it."""

    def __init__(self, console: Console) -> None:
        self._summary = Summary()
        self._current = ""
        self._tokens = 0
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._current = ""
        with suppress(OSError):
            self._live.stop()

    def note(self, text: str) -> None:
        """Print it above the live line; a terminal that went away must not end the night."""
        with suppress(OSError):
            self._live.console.print(Text(text))

    def attempt_started(self, job: ClaimedJob, place: Place) -> None:
        """Show which conversation, turn and attempt is running."""
        attempt = f" attempt {place.attempt}" if place.attempt > 1 else ""
        self._current = f"{job.custom_id} turn {place.turn}{attempt}"
        self.tokens(0)

    def tokens(self, count: int) -> None:
        """Show how far the running attempt is."""
        self._tokens = count
        with suppress(OSError):
            self._live.refresh()

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """Bring the line up to date; tell of a job that did not go well."""
        self._summary.take(tally, waiting)
        if end.error:
            self.note(end_line(job, end))

    def _render(self) -> Text:
        line = self._summary.line()
        if self._current:
            line += f" · {self._current}, {self._tokens} tokens"
        return Text(line, no_wrap=True, overflow="ellipsis")


def open_display() -> "LiveDisplay | PlainDisplay":
    """Return the display that suits standard error: live in a terminal, else plain."""
    if sys.stderr.isatty():
        return LiveDisplay(Console(stderr=True))
    return PlainDisplay(sys.stderr)
