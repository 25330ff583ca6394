"""Runs SQL that can only read this database: a person's own, or a recipe of the cookbook."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import InputError, UnknownTarget
from mh_batch.store.connection import location
from mh_batch.store.faults import file_fault, primary_code
from mh_batch.store.sql import Entry, statements

# The only functions of SQLite that reach outside of the database.
_FUNCTIONS_REFUSED = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile"})

# Pragmas that only read; those of the second set would write if given a value.
_PRAGMAS_WITH_VALUE = frozenset(
    {
        *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check", "integrity_check", "quick_check"),
    }
)
_PRAGMAS_BARE = frozenset(
    {
        *("database_list", "collation_list", "function_list", "compile_options", "encoding"),
        *("page_count", "page_size", "freelist_count", "user_version", "application_id"),
        *("schema_version", "journal_mode"),
    }
)
# Tables that are functions. To the authorizer their first use on a connection looks like a change
# of the schema, so that first use comes before it.
_TABLE_FUNCTIONS = ("json_each", "json_tree", "pragma_table_info", "pragma_table_list")

_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})


def ask(db: Database, sql: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Run one statement that only reads; return its column names and its rows, streamed.

    After it the connection can only read. Raises `InputError` for bad SQL, for several
    statements and for one that would write, attach or load anything.
    """
    conn, path = db.conn, location(db)
    conn.row_factory = None
    try:
        for table in _TABLE_FUNCTIONS:
            conn.execute(f"SELECT 1 FROM {table} LIMIT 0")
        conn.set_authorizer(_authorize)
        cursor = conn.execute(sql)
        if cursor.description is None:
            raise InputError("query: a SELECT is needed, this statement returns nothing")
    except BaseException as error:
        _explain(error, path)
        raise
    return [column[0] for column in cursor.description], _rows(cursor, path)


def recipes() -> Mapping[str, Entry]:
    """Return every recipe by its name, in the order of the book; `about` is its question."""
    return statements("reports/cookbook.sql")


def job_queries() -> Mapping[str, Entry]:
    """Return the questions about one job by name; each takes its number as `:job_id`."""
    return statements("reports/job_queries.sql")


def recipe(name: str) -> Entry:
    """Return one recipe; raises `UnknownTarget` with the nearest name, or with all of them."""
    book = recipes()
    if name in book:
        return book[name]
    hint = nearest(name, book)
    cure = f"did you mean {hint}?" if hint else f"must be one of {', '.join(book)}"
    raise UnknownTarget(f"no recipe {name!r}; {cure}")


def _rows(cursor: sqlite3.Cursor, path: Path) -> Iterator[tuple[Any, ...]]:
    try:
        # no `yield from`: that closes the cursor at the end, and the database may be closed by then
        for row in cursor:  # noqa: UP028
            yield row
    except sqlite3.Error as error:
        _explain(error, path)
        raise


def _explain(error: BaseException, path: Path) -> None:
    """Raise `error` as a message for whoever wrote the query.

    Returns if it is not SQLite's, or only says that the query was interrupted.
    """
    # several statements are a bare Warning in Python 3.11
    if not isinstance(error, sqlite3.Error | sqlite3.Warning):
        return
    if isinstance(error, sqlite3.Error) and (fault := file_fault(error, str(path))) is not None:
        raise fault from error
    if isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_INTERRUPT:
        return
    text = str(error)
    if "not authorized" in text or "prohibited" in text:
        text = f"{text}; a query may only read (SELECT)"
    raise InputError(f"query: {text}") from error


def _authorize(
    action: int, first: str | None, second: str | None, _schema: str | None, _by: str | None
) -> int:
    """Allow what only reads this database; SQLite asks for each action of a statement."""
    allowed = action in _READS
    if action == sqlite3.SQLITE_FUNCTION:
        allowed = (second or "").lower() not in _FUNCTIONS_REFUSED
    elif action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in _PRAGMAS_WITH_VALUE or (name in _PRAGMAS_BARE and second is None)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
