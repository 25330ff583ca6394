"""SQL on a database as `mh-batch query` runs it, with all of its rows."""

from contextlib import closing
from pathlib import Path
from typing import Any

from mh_batch.store.connection import open_reader
from mh_batch.store.reports.query import ask


def query(path: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of the columns, and the rows."""
    with closing(open_reader(path)) as db:
        columns, rows = ask(db, sql)
        return columns, list(rows)
