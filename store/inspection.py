"""Looks at a file without changing it: is it ours, does it need migrating, is it damaged."""

import sqlite3
from contextlib import closing
from enum import Enum
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from mh_batch.jobs.errors import StoreUnusable

from .faults import BUSY_SECONDS, file_faults
from .migrations import migrations, names

_TABLES = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
"""
_APPLIED = f"SELECT name FROM {migrations.migrations_table} WHERE migration_set = ?"


class Condition(Enum):
    """What is at a path."""

    MISSING = "no file, or nothing in it"
    OLDER = "ours, with migrations pending"
    CURRENT = "ours, as this version wants it"


def inspect(path: Path) -> Condition:
    """Return what is at the real path `path`, without changing anything.

    Raises `StoreUnusable` for a folder, a file that is no database, a database of another
    program, and one that a newer version of this program has migrated.
    """
    if not path.parent.is_dir():
        raise StoreUnusable(f"{path}: there is no folder {path.parent}; make it first")
    # stat, never open: closing a descriptor of the file would drop the locks that SQLite holds
    # on it elsewhere in this process
    try:
        found = path.stat()
    except FileNotFoundError:
        return Condition.MISSING
    except OSError as error:
        raise StoreUnusable(f"{path}: cannot be read: {error.strerror}") from error
    if not S_ISREG(found.st_mode):
        what = "a folder" if S_ISDIR(found.st_mode) else "no ordinary file"
        raise StoreUnusable(f"{path}: {what}, not a database; name another file with --db")
    if found.st_size == 0:
        return Condition.MISSING
    with file_faults(str(path)):
        tables, applied = _read(path)
    return _judge(path, tables, applied)


def read_only_uri(path: Path, *, immutable: bool = False) -> str:
    """Return the SQLite address that opens `path` for reading only.

    `immutable` takes no locks and leaves no files; it is right only while nobody writes.
    """
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"


def has_wal(path: Path) -> bool:
    """Whether a write-ahead log is beside `path`: the file is in use, or its last user crashed."""
    return path.with_name(path.name + "-wal").exists()


def find_damage(conn: sqlite3.Connection, *, thorough: bool) -> str | None:
    """Return what is wrong with the database, `None` if nothing is.

    `thorough` also compares the indexes with their tables.
    """
    check = "integrity_check" if thorough else "quick_check"
    try:
        found = str(conn.execute(f"PRAGMA {check}(1)").fetchone()[0])
        orphan = conn.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return found
    return None if orphan is None else f"a row of {orphan[0]} refers to nothing"


def _read(path: Path) -> tuple[set[str], set[str]]:
    """Return the names of the file's tables, and of our migrations that were applied to it."""
    if not has_wal(path):
        # a plain read-only connection would leave a -wal and a -shm beside a file that is not ours
        try:
            return _names(read_only_uri(path, immutable=True))
        except sqlite3.DatabaseError:
            # someone may have begun to write meanwhile: read it with locks
            if not has_wal(path):
                raise
    return _names(read_only_uri(path))


def _names(uri: str) -> tuple[set[str], set[str]]:
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
        tables = {row[0] for row in connection.execute(_TABLES)}
        applied: set[str] = set()
        if migrations.migrations_table in tables:
            rows = connection.execute(_APPLIED, (migrations.name,))
            applied = {row[0] for row in rows}
    return tables - {migrations.migrations_table}, applied


def _judge(path: Path, tables: set[str], applied: set[str]) -> Condition:
    known = set(names())
    if applied - known:
        newest = max(applied - known)
        raise StoreUnusable(
            f"{path}: made by a newer version of mh-batch (it has {newest}); "
            "upgrade mh-batch, or name another file with --db"
        )
    if tables and not applied:
        raise StoreUnusable(
            f"{path}: a database of another program (it has the table {min(tables)}); "
            "name another file with --db"
        )
    if not applied:
        return Condition.MISSING
    return Condition.OLDER if known - applied else Condition.CURRENT
