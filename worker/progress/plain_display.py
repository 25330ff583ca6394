"""The display of a drain in a pipe or a log file: plain lines."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import printable

from .dashboard import summary_line
from .poller import Poller

if TYPE_CHECKING:
    from mh_batch.worker.draining.reporter import Tally

PLAIN_SECONDS = 10.0


def end_line(job: ClaimedJob, end: JobEnd) -> str:
    """Return the line about a failed or incomplete job."""
    return f"{printable(job.custom_id)}: {end.status} ({end.error_code}): {end.error}"


class PlainDisplay:
    """Prints notes as they come, and the progress every few seconds.

    That is what `status --watch` prints of the database at `path`; without one there is none.
    """

    def __init__(self, out: TextIO, path: Path | None = None) -> None:
        self._out = out
        self._poller = None if path is None else Poller(path)
        self._last = time.monotonic()

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._poller is not None:
            self._poller.close()

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

    def job_ended(
        self,
        job: ClaimedJob,
        end: JobEnd,
        tally: "Tally",  # noqa: ARG002
        waiting: int,
    ) -> None:
        """Print an error, and the progress every few seconds and at the end of the queue."""
        if end.error:
            self.note(end_line(job, end))
        now = time.monotonic()
        if now - self._last >= PLAIN_SECONDS or not waiting:
            self._last = now
            self._print_progress()

    def _print_progress(self) -> None:
        if self._poller is None:
            return
        # a database that cannot be read ends the drain when it is written
        with suppress(StoreUnusable):
            self._poller.poll(whole=True)
            self.note(summary_line(self._poller.snapshot, datetime.now().astimezone()))
