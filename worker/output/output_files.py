"""The files that one export writes, each JSON lines or CSV."""

from collections.abc import Callable
from contextlib import ExitStack

from mh_batch.jobs.results.batch_output import Line

from .files import open_output
from .rows import csv_writer, json_writer

Columns = tuple[str, ...] | None
"""The columns of CSV; `None` for JSON lines."""


class OutputFiles:
    """The open files of one export, by path; `rows` counts the rows of each."""

    def __init__(self, stack: ExitStack, *, raw_csv: bool = False) -> None:
        self.rows: dict[str, int] = {}
        self._stack = stack
        self._raw_csv = raw_csv
        self._writers: dict[str, Callable[[Line], object]] = {}

    def open(self, path: str, columns: Columns) -> None:
        """Open a file for JSON lines, or with `columns` for CSV with a header."""
        out = self._stack.enter_context(open_output(path))
        self.rows[path] = 0
        if columns is None:
            self._writers[path] = json_writer(out)
        else:
            write = csv_writer(out, raw=self._raw_csv)
            write(columns)
            self._writers[path] = lambda row: write([row.get(name) for name in columns])

    def write(self, path: str, row: Line, columns: Columns = None) -> None:
        """Write one row; open the file first if it is not open."""
        if path not in self.rows:
            self.open(path, columns)
        self._writers[path](row)
        self.rows[path] += 1
