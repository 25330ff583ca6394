"""Polls a database that another process may be writing, often and at little cost."""

import sqlite3
import time
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.store.connection import data_version, open_reader
from mh_batch.store.connection import snapshot as consistent
from mh_batch.store.reports.batches import BatchReport, batch_reports
from mh_batch.store.reports.figures import figures_of, latest_batches
from mh_batch.store.reports.progress import Latest, latest

from .snapshot import Snapshot, snapshot_of

COUNT_SHARE = 0.05
"""The share of the time to spend on counting, which reads the whole index of a long queue."""


class Poller:
    """Keeps a snapshot of the database at `path`; to be used by one thread.

    `batch_id` restricts it to one batch, `None` to none. `working` says whether a worker runs.
    """

    def __init__(self, path: Path, batch_id: int | None = None, *, working: bool = True) -> None:
        self.working = working
        self._path = path
        self._batch_id = batch_id
        self._db: Database | None = None
        self._version: int | None = None
        self._count_at = 0.0
        self._reports: list[BatchReport] = []
        self._chosen: frozenset[int] = frozenset()
        self._found: Latest | None = None

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
            with consistent(db):
                self._found = latest(db)
                if due or whole:
                    self._count(db, self._found)
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

    @property
    def snapshot(self) -> Snapshot:
        """What the last poll found."""
        if self._found is None:
            return Snapshot()
        shown = self._reports, self._chosen, self._found
        return snapshot_of(figures_of(*shown, working=self.working))

    def _count(self, db: Database, found: Latest) -> None:
        began = time.monotonic()
        self._reports = batch_reports(db, self._batch_id)
        self._chosen = latest_batches(db, self._reports, found)
        over = time.monotonic()
        self._count_at = over + (over - began) / COUNT_SHARE
