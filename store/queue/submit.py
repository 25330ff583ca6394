"""Submits a batch whole or not at all, in short transactions that a worker need not wait for."""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request, prefix_key
from mh_batch.jobs.errors import BadLine, StoreUnusable
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, location
from mh_batch.store.deletion import delete_batch
from mh_batch.store.lock import SubmitLock

from .loading_rows import ADD, EncodedLine, Row, holder, number_rows
from .resubmission import check_resubmission

CHUNK_ROWS = 2_000
CHUNK_BYTES = 4_000_000
"""How much one transaction writes: a worker waits tens of milliseconds for it."""

# While a batch loads no chunk needs to be on disk: the commit of `publish` syncs them too, as the
# log is written in order. The only check on `jobs` is on a status that no line sets.
_LOADING_PRAGMAS = """
PRAGMA synchronous = NORMAL;
PRAGMA ignore_check_constraints = ON;
PRAGMA cache_size = -8192;
"""
_SETTLED_PRAGMAS = """
PRAGMA synchronous = FULL;
PRAGMA ignore_check_constraints = OFF;
PRAGMA cache_size = -32768;
"""

_BEGIN = """
INSERT INTO batches
    (id, name, source, state, submitted_at, model, priority, seed, settings, settings_given)
VALUES (
    1 + max(
        (SELECT coalesce(max(id), 0) FROM batches),
        (SELECT coalesce(max(batch_id), 0) FROM deletions)
    ),
    ?, ?, 'loading', ?, ?, ?, ?, ?, ?
)
RETURNING id
"""
_OF_CLIENT = "UPDATE batches SET api_batch_id = ? WHERE id = ?"
_PUBLISH = "UPDATE batches SET state = 'ready', source_sha256 = ?, job_count = ? WHERE id = ?"
_STATE = "SELECT state FROM batches WHERE id = ?"
_LOADING = "SELECT id FROM batches WHERE state = 'loading'"
_LINES = "SELECT position, custom_id, model, request FROM jobs WHERE batch_id = ? ORDER BY position"
_encode = msgspec.json.Encoder().encode


def landed_lines(db: Database, batch_id: int) -> Iterator[JobLine]:
    """Yield the lines of a batch in the order of its file, without their `metadata`."""
    for number, custom_id, model, request in db.conn.execute(_LINES, (batch_id,)):
        decoded = msgspec.json.decode(request, type=Request)
        yield JobLine(number, custom_id, model, decoded)


class Submission:
    """A batch that is being submitted: `add` its lines, then `publish`.

    Use it as a context manager: a block that ends without `publish`, for whatever reason, leaves
    nothing in the database. Until then no claim, count or result sees the batch. `batch_id` is its
    id, `count` how many jobs it holds. `repeated_ids` are two lines with the same `own_id`, `None`
    if there are none: then no line has its own id as `custom_id`.
    """

    def __init__(self, db: Database, batch_id: int, batch: NewBatch, lock: SubmitLock) -> None:
        self.batch_id = batch_id
        self.count = 0
        self.repeated_ids: tuple[int, int] | None = None
        self._own_ids = True
        self._last = 0
        self._db = db
        self._batch = batch
        self._lock = lock

    @classmethod
    def begin(cls, db: Database, batch: NewBatch) -> Self:
        """Start a batch, after deleting what submitters that died have left.

        Raises `StoreUnusable` if the database cannot be written.
        """
        lock = SubmitLock(location(db))
        try:
            if lock.take_alone():
                _purge(db)
            # until this submission ends: nobody may purge a batch that is still growing
            lock.share()
            batch_id = _begin(db, batch)
            db.conn.executescript(_LOADING_PRAGMAS)
            return cls(db, batch_id, batch, lock)
        except BaseException:
            lock.close()
            raise

    def encoded(self, line: JobLine) -> EncodedLine:
        """Return a line as it is stored, which takes less memory than the line."""
        return EncodedLine(
            number=line.number,
            custom_id=line.custom_id,
            model=None if self._batch.override_model else line.model or None,
            claim_key=prefix_key(line.request) if self._batch.order == "prefix" else 0,
            metadata=None if line.metadata is None else bytes(line.metadata),
            request=_encode(line.request),
            own_id=line.own_id,
            copy=line.copy,
        )

    def add(self, lines: Sequence[JobLine | EncodedLine]) -> list[BadLine]:
        """Write `lines`; return those not written because the batch has their `custom_id` already.

        The reason names the line that has it. Long sequences take several transactions.
        """
        refused: list[BadLine] = []
        for chunk, rows in self._chunks(lines):
            refused += self._write(chunk, rows)
        return refused

    def publish(self, source_sha256: str, *, only_new: bool = False) -> int:
        """Make the batch visible, in one small transaction; return how many jobs it holds.

        When this returns, all of it is on disk. With `only_new` it raises `AlreadySubmitted` if
        there is a batch of a file with the same hash, also one submitted meanwhile.
        """
        self._db.conn.executescript(_SETTLED_PRAGMAS)
        with immediate(self._db):
            if only_new:
                check_resubmission(self._db, source_sha256, self._batch)
            self._db.conn.execute(_PUBLISH, (source_sha256, self.count, self.batch_id))
        return self.count

    @property
    def published(self) -> bool:
        """Whether the batch is visible, by the database: a signal may interrupt `publish`."""
        row = self._db.conn.execute(_STATE, (self.batch_id,)).fetchone()
        return row is not None and row[0] == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self.published:
                delete_batch(self._db, self.batch_id)
        except StoreUnusable:
            # what stopped the submission matters more; the rows are invisible and are deleted later
            if error is None:
                raise
        finally:
            self._lock.close()
            self._db.conn.executescript(_SETTLED_PRAGMAS)

    def _chunks(
        self, lines: Iterable[JobLine | EncodedLine]
    ) -> Iterator[tuple[list[EncodedLine], list[Row]]]:
        """Yield `lines` in parts for one transaction each, encoded before it begins."""
        chunk: list[EncodedLine] = []
        rows: list[Row] = []
        size = 0
        for given in lines:
            line = self.encoded(given) if isinstance(given, JobLine) else given
            if self._own_ids and line.own_id is None:
                if rows:
                    yield chunk, rows
                    chunk, rows, size = [], [], 0
                # a repeated id in the rows just written has done so already
                if self._own_ids:
                    self._number_rows(line)
            rows.append(self._row(line))
            chunk.append(line)
            size += len(line.request) + len(line.metadata or b"")
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield chunk, rows
                chunk, rows, size = [], [], 0
        if rows:
            yield chunk, rows

    def _write(self, lines: list[EncodedLine], rows: list[Row]) -> list[BadLine]:
        with immediate(self._db):
            landed = self._db.conn.executemany(ADD, rows).rowcount
            if sum(len(row[-1]) for row in rows) >= CHUNK_BYTES:
                # sqlite3 keeps the last values, however large: replace them by a row that exists
                self._db.conn.execute(ADD, (*rows[0][:-2], None, b"{}"))
        self.count += landed
        self._last = lines[-1].number
        if landed == len(rows):
            return []
        refused = self._duplicates(lines)
        if not self._own_ids:
            return refused
        again = refused[0].number
        self.repeated_ids = self._holder(next(x for x in lines if x.number == again)), again
        self._number_rows(lines[0])
        # those that are there already are left alone
        return self._write(lines, [self._row(line) for line in lines])

    def _row(self, line: EncodedLine) -> Row:
        key = (self.batch_id, line.number, self._custom_id(line), self._batch.priority)
        return *key, line.model, line.claim_key, line.metadata, line.request

    def _custom_id(self, line: EncodedLine) -> str:
        return line.own_id if self._own_ids and line.own_id is not None else line.custom_id

    def _number_rows(self, line: EncodedLine) -> None:
        """Name the rows so far after their numbers, as all that follow: their ids are not unique.

        `line` is any of the batch: all of its lines are copies, or none is.
        """
        self._own_ids = False
        if self.count:
            number_rows(self._db, self.batch_id, self._last, copies=line.copy > 0)

    def _duplicates(self, lines: list[EncodedLine]) -> list[BadLine]:
        refused = []
        for line in lines:
            first = self._holder(line)
            if first != line.number:
                reason = f"custom_id: {line.custom_id!r} is already that of line {first}"
                refused.append(BadLine(line.number, reason))
        return refused

    def _holder(self, line: EncodedLine) -> int:
        return holder(self._db, self.batch_id, self._custom_id(line))


def purge_abandoned(db: Database) -> int:
    """Delete the batches whose submitter died; return how many.

    Does nothing while anybody submits to this database: a batch that is loading looks the same.
    """
    lock = SubmitLock(location(db))
    try:
        return _purge(db) if lock.take_alone() else 0
    finally:
        lock.close()


def _begin(db: Database, batch: NewBatch) -> int:
    """Make the row of a batch that is loading; return its id."""
    settings = msgspec.json.encode(batch.settings).decode()
    given = None if batch.given is None else msgspec.json.encode(batch.given).decode()
    values = (
        *(batch.name, batch.source, now(), batch.model, batch.priority),
        *(batch.settings.seed, settings, given),
    )
    with immediate(db):
        batch_id = int(db.conn.execute(_BEGIN, values).fetchone()[0])
        if batch.api_batch_id is not None:
            db.conn.execute(_OF_CLIENT, (batch.api_batch_id, batch_id))
    return batch_id


def _purge(db: Database) -> int:
    abandoned = [row[0] for row in db.conn.execute(_LOADING)]
    for batch_id in abandoned:
        delete_batch(db, batch_id)
    return len(abandoned)
