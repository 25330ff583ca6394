"""SQLite's errors about the file, as messages with a cure."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mh_batch.jobs.errors import StoreUnusable

BUSY_SECONDS = 30

_RIGHTS = "check the rights of the file and of its folder"
_DAMAGED = "restore a copy, or save what is readable with `sqlite3 FILE .recover`"

# By primary result code; any other error is a fault of the program and is raised unchanged.
_MESSAGES: dict[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then run the command again: "
    "what was reported done is safe",
    sqlite3.SQLITE_READONLY: f"the database cannot be written; {_RIGHTS}",
    sqlite3.SQLITE_PERM: f"the database cannot be used; {_RIGHTS}",
    sqlite3.SQLITE_CANTOPEN: f"the database cannot be opened; {_RIGHTS}",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check the disk and its free space, "
    "then run the command again",
    sqlite3.SQLITE_BUSY: f"another program has kept the database locked for {BUSY_SECONDS} s; "
    "close it, then run the command again",
    sqlite3.SQLITE_CORRUPT: f"the database is damaged; {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: "not an SQLite database; name another file with --db",
}


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code of `error`, 0 if the driver raised it itself."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def file_fault(error: sqlite3.Error, where: str | None = None) -> StoreUnusable | None:
    """Return the `StoreUnusable` for `error`, or `None` if it is not about the file.

    `where` names the file in front of the message; `None` leaves it out.
    """
    text = _MESSAGES.get(primary_code(error))
    if text is None:
        return None
    name = getattr(error, "sqlite_errorname", "")
    return StoreUnusable(f"{where + ': ' if where else ''}{text} ({name})")


@contextmanager
def file_faults(where: str | None = None) -> Iterator[None]:
    """Raise `StoreUnusable` for every SQLite error in the block that is about the file."""
    try:
        yield
    except sqlite3.Error as error:
        fault = file_fault(error, where)
        if fault is None:
            raise
        raise fault from error
