"""Submits the files of the batches that clients created, one after the other."""

import sqlite3
import threading
from collections.abc import Iterator
from typing import BinaryIO

import anyio
import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import (
    BadLine,
    BadLines,
    EnvironmentFault,
    InputError,
    Interrupted,
    describe_error,
)
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.store.server.files import content_path
from mh_batch.store.server.pending import PendingBatch, fail_batch, is_pending, next_pending, settle
from mh_batch.worker.runtime.job_faults import is_job_fault
from mh_batch.worker.runtime.store_thread import StoreThread
from mh_batch.worker.server.note import note
from mh_batch.worker.server.objects import Object, error_entry, line_errors
from mh_batch.worker.server.state import ServerState
from mh_batch.worker.submission.source import batch_name
from mh_batch.worker.submission.submission import Rules, submit_stream
from mh_batch.worker.submission.tables.source import Lines, Source

PAUSE_SECONDS = 10.0
"""When to try again after the database could not be written."""

FAULTS = (EnvironmentFault, OSError, sqlite3.Error)
"""What is wrong with the machine, not with a file."""


class CheckedSource(Source):
    """JSON lines of a client: they may name these models only.

    Any other name would have the worker look for a folder of that name, or download it.
    """

    def __init__(self, stream: BinaryIO, models: frozenset[str]) -> None:
        super().__init__(stream)
        self._models = models

    def lines(self, name: str, inherited: Inherited, max_line_bytes: int) -> Lines:
        """Return the reader of the jobs."""
        return _CheckedLines(super().lines(name, inherited, max_line_bytes), self._models)


class _CheckedLines:
    """Lines, and refusals of those that name another model."""

    def __init__(self, lines: Lines, models: frozenset[str]) -> None:
        self.source = lines.source
        self.lines = 0
        self._lines = lines
        self._models = models

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    @property
    def sha256(self) -> str:
        return self._lines.sha256

    def take_raw(self) -> bytes | None:
        return self._lines.take_raw()

    def __iter__(self) -> Iterator[JobLine | BadLine]:
        for line in self._lines:
            self.lines = self._lines.lines
            if isinstance(line, JobLine) and line.model and line.model not in self._models:
                name = line.model if len(line.model) < 100 else f"{line.model[:100]}…"
                yield BadLine(line.number, f"model: {name!r} is not one that GET /v1/models lists")
            else:
                yield line
            del line


class Submitter:
    """Submits one batch at a time on a connection of its own, so that no request waits for it."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._ending = threading.Event()

    async def run(self) -> None:
        """Submit what clients create, until cancelled; what is not queued then comes later."""
        async with StoreThread(self._state.options.db) as store, anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_end)
            while True:
                try:
                    await self._submit_all(store)
                except FAULTS as error:
                    note(f"batches of clients wait: {error}")
                    await anyio.sleep(PAUSE_SECONDS)
                    continue
                await self._state.created.wait()

    async def _watch_end(self) -> None:
        """Break a submission off when the server ends: its call cannot be cancelled."""
        try:
            await anyio.sleep_forever()
        finally:
            self._ending.set()

    async def _submit_all(self, store: StoreThread) -> None:
        while (pending := await store.call(next_pending)) is not None:
            models = frozenset(await self._state.models())
            errors = await store.call(self._submit, pending, models)
            if errors:
                encoded = msgspec.json.encode(errors).decode()
                await store.call(fail_batch, pending.id, encoded)
            self._state.changed.set()

    def _submit(self, db: Database, pending: PendingBatch, models: frozenset[str]) -> list[Object]:
        """Queue a batch; return what is wrong with its file, nothing if it was queued."""
        try:
            self._queue(db, pending, models)
        except Interrupted:
            return []
        except BadLines as error:
            return line_errors(error)
        except InputError as error:
            return [error_entry("invalid_file", str(error))]
        except FileNotFoundError:
            return [error_entry("file_not_found", "the content of the file is gone")]
        except Exception as error:
            # whatever one file holds must not keep the others waiting
            if not is_job_fault(error):
                raise
            return [error_entry("internal_error", describe_error(error))]
        settle(db)
        return []

    def _queue(self, db: Database, pending: PendingBatch, models: frozenset[str]) -> None:
        """Submit a file; raises `Interrupted` if its batch was cancelled, or the server ends."""

        def check(_nbytes: int, _lines: int) -> None:
            if self._ending.is_set() or not is_pending(db, pending.id):
                raise Interrupted("the batch was cancelled, or the server ends")

        options = self._state.options
        batch = NewBatch(
            batch_name(pending.filename),
            pending.filename,
            options.settings,
            given=options.given,
            api_batch_id=pending.id,
        )
        rules = Rules(again=True, rejects=False, max_line_mib=options.max_line_mib)
        with content_path(self._state.uploads, pending.file_id).open("rb") as stream:
            submit_stream(db, CheckedSource(stream, models), batch, rules, check)
