"""Connections to the database and their transactions.

Connections are in autocommit mode; a transaction is what `immediate` or `snapshot` encloses.
"""

import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable, WorkerRunning

from .faults import BUSY_SECONDS, file_fault, file_faults
from .inspection import Condition, has_wal, inspect, read_only_uri
from .lock import FileId, file_id, held_here, holder, real_path, require_lock, worker_lock
from .migrations import migrations

MIGRATION_WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.05

# fullfsync only acts on macOS, where fsync alone leaves data in the drive's cache. The size
# limit gives the disk back after a long reader has let the write-ahead log grow.
_WRITER_PRAGMAS = """
PRAGMA synchronous = FULL;
PRAGMA fullfsync = 1;
PRAGMA checkpoint_fullfsync = 1;
PRAGMA foreign_keys = ON;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -32768;
"""
_FIRST_READ = "SELECT count(*) FROM sqlite_schema"


class Store(Database):
    """A database open for writing that checks that its file is still in place."""

    def __init__(self, conn: sqlite3.Connection, real: Path) -> None:
        super().__init__(conn, execute_plugins=False)
        self._real = real
        self._file: FileId | None = file_id(real)

    def check_file_identity(self) -> None:
        """Raise `StoreUnusable` if the file, or this worker's lock on it, is no longer in place.

        SQLite goes on writing into a deleted file, and all of it would be lost. It costs two
        look-ups of a name, so every transaction can ask for it.
        """
        if self._file is None or file_id(self._real) != self._file:
            raise StoreUnusable(
                f"{self._real}: the database was deleted, moved or replaced while it was open; "
                "what was reported done is in the file that stood here. Bring it back with its "
                "-wal file beside it, then run the command again"
            )
        require_lock(self._real)


def open_store(path: Path) -> Database:
    """Open the database at `path` for writing; create or migrate it first where needed.

    Several processes may do so at once. Raises `StoreUnusable` for a file that is not ours or
    cannot be used, which stays unchanged, and `WorkerRunning` if an older worker is using it.
    """
    real = real_path(path)
    _refuse_second_name(real)
    if inspect(real) is not Condition.CURRENT:
        _migrate_alone(real)
    with file_faults(str(real)):
        return _writer(real)


@contextmanager
def writing(path: Path) -> Iterator[Database]:
    """Open an existing database for writing, and close it after the block.

    Raises `StoreUnusable` if there is none, and what `open_store` raises.
    """
    require_store(path)
    store = open_store(path)
    try:
        yield store
    finally:
        store.close()


def open_reader(path: Path) -> Database:
    """Open the database at `path` for reading only, also while a worker is writing.

    Raises `StoreUnusable` if there is none, or none that this version can read.
    """
    real = real_path(path)
    if require_store(path) is Condition.OLDER:
        raise StoreUnusable(
            f"{path}: made by an older version of mh-batch; "
            "`mh-batch work` or `mh-batch submit FILE` brings it up to date"
        )
    with file_faults(str(real)):
        try:
            return _reader(read_only_uri(real))
        except sqlite3.OperationalError:
            # in a read-only folder WAL's side files cannot be made; without a log there is no
            # writer either, and the file alone is complete
            if has_wal(real):
                raise
            return _reader(read_only_uri(real, immutable=True))


def require_store(path: Path) -> Condition:
    """Raise `StoreUnusable` unless a database of ours is at `path`; return its condition.

    An older one is fine: `open_store` migrates it. Nothing is created or changed.
    """
    real = real_path(path)
    condition = inspect(real) if real.parent.is_dir() else Condition.MISSING
    if condition is Condition.MISSING:
        raise StoreUnusable(f"no database at {path}; `mh-batch submit FILE` makes one")
    return condition


@contextmanager
def immediate(db: Database) -> Iterator[None]:
    """Run the block as one writing transaction: on disk when the block ends, or undone whole.

    Raises `StoreUnusable` if the file cannot be written (disk full, no rights, locked for long), or
    is no longer the one under its name.
    """
    yield from _transaction(db, "BEGIN IMMEDIATE")


@contextmanager
def snapshot(db: Database) -> Iterator[None]:
    """Let the block read one state of the database, whatever others write meanwhile.

    Inside a transaction the block joins it. Raises `StoreUnusable` when the file cannot be read.
    """
    if db.conn.in_transaction:
        yield
    else:
        yield from _transaction(db, "BEGIN")


def data_version(db: Database) -> int:
    """Return a number that changes whenever another connection has written; reads no table.

    Raises `StoreUnusable` if the file is gone.
    """
    with snapshot(db):
        return int(db.conn.execute("PRAGMA data_version").fetchone()[0])


def location(db: Database) -> Path:
    """Return the path of the file that `db` is connected to."""
    return Path(db.execute("PRAGMA database_list").fetchone()[2])


def _transaction(db: Database, begin: str) -> Iterator[None]:
    conn = db.conn
    if conn.in_transaction:
        raise RuntimeError("a transaction is already open on this connection")
    try:
        conn.execute(begin)
        _check_file(db)
        yield
        # again, so that nothing is reported as written that nobody can find
        _check_file(db)
        conn.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(conn)
        fault = file_fault(error, str(location(db)))
        if fault is None:
            raise
        raise fault from error
    except BaseException:
        _roll_back(conn)
        raise


def _check_file(db: Database) -> None:
    if isinstance(db, Store):
        db.check_file_identity()


def _refuse_second_name(real: Path) -> None:
    """Raise `StoreUnusable` for a file with hard links: SQLite's log and our lock go by name."""
    try:
        status = real.stat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise StoreUnusable(
            f"{real}: the file has {status.st_nlink} names (hard links), and a program that opens "
            "it by another one would neither see the lock nor the log of this one; remove the "
            f"other names, or copy it: `cp {real.name} copy && mv copy {real.name}`"
        )


def _roll_back(conn: sqlite3.Connection) -> None:
    """Undo the open transaction; SQLite may have done so already, for example on a full disk."""
    with suppress(sqlite3.Error):
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def _writer(real: Path, mode: str = "rw") -> Store:
    db = Store(_connection(f"{real.as_uri()}?mode={mode}"), real)
    try:
        journal = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if journal != "wal":
            raise StoreUnusable(
                f"{real}: this file system cannot share a database between programs "
                f"(journal mode {journal}); put it on a local disk"
            )
        db.conn.executescript(_WRITER_PRAGMAS)
    except BaseException:
        db.close()
        raise
    return db


def _reader(uri: str) -> Database:
    db = Database(_connection(uri), execute_plugins=False)
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute(_FIRST_READ)
    except BaseException:
        db.close()
        raise
    return db


def _connection(uri: str) -> sqlite3.Connection:
    conn = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    conn.row_factory = sqlite3.Row
    return conn


def _migrate_alone(real: Path) -> None:
    """Migrate the database under the worker's lock, or wait until another process has."""
    deadline = time.monotonic() + MIGRATION_WAIT_SECONDS
    while True:
        if held_here(real):
            return _migrate(real)
        try:
            with worker_lock(real):
                return _migrate(real)
        except WorkerRunning:
            if inspect(real) is Condition.CURRENT:
                return None
            if time.monotonic() > deadline:
                raise WorkerRunning(
                    f"{real}: needs an upgrade, and a worker of an older version "
                    f"(pid {holder(real)}) is at it; stop that worker first"
                ) from None
        time.sleep(_POLL_SECONDS)


def _migrate(real: Path) -> None:
    """Apply all pending migrations or none; the caller holds the lock."""
    if inspect(real) is Condition.CURRENT:
        return
    with file_faults(str(real)):
        db = _writer(real, "rwc")
        try:
            with immediate(db):
                migrations.apply(db)
        finally:
            db.close()
