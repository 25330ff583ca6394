"""`--notify`: a command that is told as JSON how a drain went."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import MhBatchError, StoreUnusable
from mh_batch.jobs.status import Status
from mh_batch.store.connection import open_reader, snapshot
from mh_batch.store.counts import queue_counts
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.reports.progress import deaths
from mh_batch.worker.runtime.shell import run_in_shell

if TYPE_CHECKING:
    from mh_batch.worker.draining.reporter import Tally
    from mh_batch.worker.draining.run import Outcome

NOTIFY_SECONDS = 60.0
"""How long the command may take."""


class NotifiedBatch(msgspec.Struct, frozen=True):
    """A batch of which jobs were finished: all its jobs by status, whichever drain did them."""

    id: int
    name: str
    jobs: int
    counts: dict[Status, int]


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What the command reads, as one JSON object.

    `end_reason` is that of `runs`; `None` while `work --watch` goes on, or if nothing was begun.
    `ended` counts the jobs that this drain finished by status, `left` the jobs in the queue.
    `tokens` were generated at `tokens_per_second` in `seconds`; `deaths` are those of the model.
    `fault` is the message of the error that ended it; `exit_code` is `None` while it goes on.
    """

    db: str
    run_id: int | None = None
    end_reason: str | None = None
    exit_code: int | None = None
    fault: str | None = None
    seconds: float | None = None
    batches: list[NotifiedBatch] = []
    ended: dict[Status, int] = {}
    left: int | None = None
    rescued: int = 0
    tokens: int = 0
    tokens_per_second: float | None = None
    deaths: int = 0


News = tuple[Notification, list[int]]
"""What is told, and the batches to look up for it."""


class Notice:
    """Runs a command when the queue ran empty and when all is over; `say` prints its failure."""

    def __init__(
        self,
        command: str,
        db: Path,
        say: Callable[[str], object],
        seconds: float = NOTIFY_SECONDS,
    ) -> None:
        self.outcome: Outcome | None = None
        self._command = command
        self._db = db.resolve()
        self._say = say
        self._seconds = seconds
        self._told = 0
        self._thread: threading.Thread | None = None
        # what is to be told once the command that runs has ended; the lock is for both
        self._next: News | None = None
        self._lock = threading.Lock()

    @contextmanager
    def at_the_end(self, exit_code: Callable[[BaseException], int | None]) -> Iterator[None]:
        """Run the command after the block, however it ends, and let that end stand.

        `exit_code` returns the code that an exception ends the program with, `None` if it is none.
        """
        try:
            yield
        except BaseException as error:
            if (code := exit_code(error)) is not None:
                fault = str(error) if isinstance(error, MhBatchError) else None
                self._finish(code, fault)
            raise
        self._finish(0, None)

    def idle(self, tally: "Tally", run_id: int) -> None:
        """Run the command beside a drain that waits for new work, if it did any since the last.

        While the command runs, only the latest news waits for its end.
        """
        if tally.jobs == self._told:
            return
        self._told = tally.jobs
        found = _of_tally(Notification(db=str(self._db), run_id=run_id), tally)
        news = (found, sorted(tally.batches))
        with self._lock:
            if self._thread is not None:
                self._next = news
                return
            self._thread = threading.Thread(target=self._tell_all, args=(news,), daemon=True)
            self._thread.start()

    def _tell_all(self, news: News | None) -> None:
        """Run the command for some news, and for what came meanwhile."""
        while news is not None:
            self._tell(*news)
            with self._lock:
                news, self._next = self._next, None
                if news is None:
                    self._thread = None

    def _finish(self, exit_code: int, fault: str | None) -> None:
        if (thread := self._thread) is not None:
            thread.join()
        found = Notification(db=str(self._db), exit_code=exit_code, fault=fault)
        outcome, batches = self.outcome, list[int]()
        if outcome is not None:
            batches = sorted(outcome.tally.batches)
            found = _of_tally(
                msgspec.structs.replace(
                    found,
                    run_id=outcome.run_id,
                    end_reason=outcome.reason,
                    seconds=round(outcome.seconds, 3),
                    fault=fault if outcome.fault is None else str(outcome.fault),
                ),
                outcome.tally,
            )
        self._tell(found, batches)

    def _tell(self, found: Notification, batches: list[int]) -> None:
        # a database that cannot be read is one of the reasons to tell somebody
        with suppress(StoreUnusable, sqlite3.Error), closing(open_reader(self._db)) as db:
            found = _with_database(found, db, batches)
        failed = run_in_shell(self._command, msgspec.json.encode(found) + b"\n", self._seconds)
        if failed is not None:
            self._say(f"--notify: {failed}: {self._command}")


def _of_tally(found: Notification, tally: "Tally") -> Notification:
    return msgspec.structs.replace(
        found,
        ended={status: jobs for status, jobs in tally.ended.items() if jobs},
        rescued=tally.rescued,
        tokens=tally.tokens,
        tokens_per_second=tally.tokens_per_second,
    )


def _with_database(found: Notification, db: Database, batches: list[int]) -> Notification:
    with snapshot(db):
        reports = [report for batch in batches for report in batch_reports(db, batch)]
        return msgspec.structs.replace(
            found,
            batches=[NotifiedBatch(r.id, r.name, r.total, r.counts) for r in reports],
            left=queue_counts(db)[Status.QUEUED],
            deaths=0 if found.run_id is None else deaths(db, found.run_id),
        )
