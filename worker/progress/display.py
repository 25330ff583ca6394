"""The display of a drain in a terminal, and the choice of the display."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace
from rich.console import Console

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd

from .dashboard import lines
from .live_region import LiveRegion
from .plain_display import PlainDisplay, end_line
from .poller import Poller
from .running_attempts import RunningAttempts
from .snapshot import Snapshot

if TYPE_CHECKING:
    from mh_batch.worker.draining.reporter import Tally

PAINT_SECONDS = 0.25
PAINTS_PER_POLL = 2
"""How many paints use one poll of the database."""


class LiveDisplay:
    """A dashboard in a terminal that is rewritten in place; notes scroll above it.

    A thread of its own reads the queue from the database, so that the drain does not wait for the
    display and reports only what is not in the database yet.
    """

    def __init__(self, console: Console, db: Path) -> None:
        self._screen = LiveRegion(console)
        self._db = db
        self._over = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="display", daemon=True)
        self._running = RunningAttempts()
        self._wait: Callable[[], object] | None = None

    def __enter__(self) -> "LiveDisplay":
        self._screen.open()
        self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._painter.join()
        self._screen.close()

    def note(self, text: str) -> None:
        """Print a note above the dashboard."""
        self._screen.say(text)

    def stopping(self, wait: Callable[[], object]) -> None:
        """Show what is waited for, below the rest."""
        self._wait = wait

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Show the conversation, turn and attempt."""
        self._running.start(job.id, job.custom_id, key, job.parallel)

    def tokens(self, job: ClaimedJob, key: AttemptKey, count: int) -> None:
        """Show how many tokens an attempt has, and the speed of all of them."""
        self._running.report(time.monotonic(), job.id, key.choice, count)

    def attempt_ended(self, job: ClaimedJob, key: AttemptKey) -> None:
        """Show another attempt in its place, or soon none."""
        self._running.end(time.monotonic(), job.id, key.choice)

    def job_ended(
        self,
        job: ClaimedJob,
        end: JobEnd,
        tally: "Tally",  # noqa: ARG002
        waiting: int,  # noqa: ARG002
    ) -> None:
        """Print a note about a failed or incomplete job; the rest is in the database."""
        if end.error:
            self.note(end_line(job, end))

    def _paint(self) -> None:
        """Poll and paint until the drain is over; the last bars stay on the screen."""
        poller = Poller(self._db)
        ticks = 0
        while not self._over.wait(PAINT_SECONDS):
            if ticks % PAINTS_PER_POLL == 0:
                with suppress(StoreUnusable):
                    poller.poll()
            ticks += 1
            self._show(self._with_attempts(poller.snapshot))
        with suppress(StoreUnusable):
            poller.poll(whole=True)
        poller.close()
        self._show(Snapshot(batches=poller.snapshot.batches))

    def _with_attempts(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with what only this process knows of the running attempts."""
        running, speed = self._running, snapshot.tokens_per_second
        return replace(
            snapshot,
            attempting=running.shown(time.monotonic()),
            ahead=running.ahead,
            # before the first attempt of the run is on record
            tokens_per_second=running.tokens_per_second if speed is None else speed,
            remark=self._remark(),
        )

    def _remark(self) -> str | None:
        """Return the line about what a stop waits for; `None` for none."""
        wait = "" if self._wait is None else str(self._wait())
        return f"stopping after {wait}" if wait else None

    def _show(self, snapshot: Snapshot) -> None:
        size = self._screen.console.size
        now = datetime.now().astimezone()
        self._screen.show(lines(snapshot, size.width, size.height, now))


def open_display(db: Path) -> "LiveDisplay | PlainDisplay":
    """Return the display that suits standard error: live in a terminal, else plain."""
    if sys.stderr.isatty():
        return LiveDisplay(Console(stderr=True), db)
    return PlainDisplay(sys.stderr, db)
