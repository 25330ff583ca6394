"""SQLite's errors in the user's words: what happened to the file, and the cure."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mh_batch.jobs.errors import StoreUnusable

BUSY_SECONDS = 30

_RIGHTS = "check the rights of the file and of its folder"
_DAMAGED = "restore a copy, or save what is readable with `sqlite3 FILE .recover`"

# By primary result code; whatever is not here is a fault of the program and stays as it is.
_MEANINGS: dict[int, str] = {
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


def meaning(error: sqlite3.Error, where: str | None = None) -> StoreUnusable | None:
    """Return what `error` says about the file, or `None` if it is not about the file.

    `where` names the file in front of the message; `None` leaves it out.
    """
    text = _MEANINGS.get(primary_code(error))
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
        told = meaning(error, where)
        if told is None:
            raise
        raise told from error
