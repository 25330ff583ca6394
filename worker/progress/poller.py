"""Polls a database that another process may be writing, often and at little cost."""

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.status import OPEN
from mh_batch.store.connection import data_version, open_reader
from mh_batch.store.reports.batches import BatchReport, batch_reports
from mh_batch.store.reports.progress import Latest, latest

from .snapshot import Attempting, Snapshot

COUNT_SHARE = 0.05
"""The share of the time to spend on counting, which reads the whole index of a long queue."""


class Poller:
    """Keeps a snapshot of the database at `path`; to be used by one thread.

    `batch_id` restricts it to one batch, `None` to none.
    """

    def __init__(self, path: Path, batch_id: int | None = None) -> None:
        self._path = path
        self._batch_id = batch_id
        self._db: Database | None = None
        self._version: int | None = None
        self._count_at = 0.0
        self._reports: list[BatchReport] = []
        self._opened: set[int] = set()
        self.snapshot = Snapshot()

    def poll(self, *, whole: bool = False) -> bool:
        """Update the snapshot if the database changed; return whether it did.

        `whole` counts at once, however long that takes. Raises `StoreUnusable` if the database
        cannot be read.
        """
        db = self._db = self._db or open_reader(self._path)
        try:
            version = data_version(db)
            due = time.monotonic() >= self._count_at
            if version == self._version and not whole:
                return False
            if due or whole:
                self._count(db)
            self._take_snapshot(latest(db))
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self._path}: cannot be read just now: {error}") from error
        # a change that is not counted yet must be seen again
        self._version = version if due or whole else None
        return True

    def close(self) -> None:
        """Close the database."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _count(self, db: Database) -> None:
        began = time.monotonic()
        self._reports = batch_reports(db, self._batch_id)
        self._opened |= {report.id for report in self._reports if _open_jobs([report])}
        over = time.monotonic()
        self._count_at = over + (over - began) / COUNT_SHARE

    def _take_snapshot(self, found: Latest) -> None:
        shown = [r for r in self._reports if r.id in self._opened] or self._reports[-1:]
        # unfinished batches first
        shown.sort(key=lambda report: (not _open_jobs([report]), report.id))
        self.snapshot = Snapshot(
            batches=tuple(shown),
            waiting=_open_jobs(self._reports),
            attempting=tuple(Attempting(job.custom_id, job.key) for job in found.running),
            ahead=found.ahead,
            last=found.last,
            pace=found.pace,
        )


def _open_jobs(reports: Iterable[BatchReport]) -> int:
    return sum(report.count(OPEN) for report in reports)
