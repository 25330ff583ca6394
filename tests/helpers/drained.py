"""A folder with a database and a scripted model process, for tests that drain it."""

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from sqlite_utils import Database

from mh_batch.jobs.record import AttemptKey, ClaimedJob, NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_store
from mh_batch.store.lookup import find_target
from mh_batch.store.queue import cancel_retry
from mh_batch.store.queue.cancel_retry import Cancelled
from mh_batch.worker.acceptance.function import AcceptFunction
from mh_batch.worker.draining.reporter import OnIdle, nothing_to_do
from mh_batch.worker.draining.run import Outcome, work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.submission.submission import submit_stream

ONE = {"prompt": "Hi"}
TWO = {"turns": ["a", "b"]}


class Notes(PlainDisplay):
    """Keeps what was said and calls back while an attempt runs.

    `began` has every attempt that went to the model: its job, and how many were there with it;
    `open` is how many are there.
    """

    def __init__(self, out: io.StringIO | None = None) -> None:
        self.said = out or io.StringIO()
        super().__init__(self.said)
        self.on_tokens: Callable[[int], object] = lambda _: None
        self.on_note: Callable[[str], object] = lambda _: None
        self.began: list[tuple[str, int]] = []
        self.open = 0

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        super().attempt_started(job, key)
        self.open += 1
        self.began.append((job.custom_id, self.open))

    def attempt_ended(self, job: ClaimedJob, key: AttemptKey) -> None:
        super().attempt_ended(job, key)
        self.open -= 1

    def tokens(self, _job: ClaimedJob, _key: AttemptKey, count: int) -> None:
        self.on_tokens(count)

    def note(self, text: str) -> None:
        super().note(text)
        self.on_note(text)


class Site:
    """A folder with a database, a script for the model, and a way to drain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db_path = folder / "mh-batch.db"
        self.notes = Notes()

    def submit(self, *lines: Mapping[str, object], **settings: object) -> None:
        db = open_store(self.db_path)
        stream = io.BytesIO(b"\n".join(json.dumps(line).encode() for line in lines))
        batch = NewBatch("b", "b.jsonl", apply(Settings(), settings), given=tuple(settings))
        submit_stream(db, stream, batch)
        db.close()

    async def drain(
        self,
        script: Sequence[str] = (),
        model: str | None = "demo",
        accept: AcceptFunction | str | None = None,
        on_idle: OnIdle = nothing_to_do,
        **values: Any,
    ) -> Outcome:
        path = self.folder / "script.json"
        path.write_text(json.dumps(script))
        child = str(Path(__file__).parent / "scripted_child.py")
        options = DrainOptions(self.db_path, model, self.folder / "logs", **values)
        with anyio.fail_after(60):
            command = (sys.executable, child, str(path))
            return await work(options, self.notes, command, accept=accept, on_idle=on_idle)

    def cancel(self, ref: str) -> Cancelled:
        db = open_store(self.db_path)
        try:
            return cancel_retry.cancel(db, find_target(db, ref))
        finally:
            db.close()

    def retry(self, ref: str) -> int:
        db = open_store(self.db_path)
        try:
            return cancel_retry.retry(db, find_target(db, ref))
        finally:
            db.close()

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        db = Database(self.db_path)
        try:
            return [tuple(row) for row in db.conn.execute(sql)]
        finally:
            db.close()

    def sound(self) -> bool:
        return self.rows("PRAGMA foreign_key_check") == [] and self.rows(
            "PRAGMA integrity_check"
        ) == [("ok",)]
