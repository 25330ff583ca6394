"""Output to standard output, or to files that are written whole or not at all."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from stat import S_IMODE
from typing import TextIO

from mh_batch.jobs.errors import EnvironmentFault, InputError
from mh_batch.jobs.files import replacing
from mh_batch.jobs.results.batch_output import Line
from mh_batch.jobs.results.formats import Ending

from .parquet import parquet_writer
from .rows import array_writer, csv_writer, json_writer

Columns = tuple[str, ...] | None
"""The columns of CSV; `None` for other kinds of files."""

STDOUT = "-"
DATABASE_ENDINGS = ("", "-wal", "-shm", ".lock", ".submit.lock", ".serve.lock")


def check_output(path: str, db: Path, *inputs: str, what: str = "the results") -> None:
    """Raise `InputError` if `what` cannot be written to `path`: call it before hours of work.

    It must not overwrite the database `db` and its side files, any of `inputs`, or a file
    that was submitted to the database.
    """
    if path == STDOUT:
        return
    target = Path(path).resolve()
    own = [db.resolve().with_name(db.resolve().name + end) for end in DATABASE_ENDINGS]
    read = [Path(name).resolve() for name in inputs]
    if target in (*own, *read) or (target.is_file() and _was_submitted(target, db)):
        raise InputError(f"{path}: {what} would overwrite it; name another file")
    if not target.parent.is_dir():
        raise InputError(f"{path}: there is no folder {target.parent}")
    if target.is_dir():
        raise InputError(f"{path}: a folder, not a file")


def _was_submitted(target: Path, db: Path) -> bool:
    """Return whether a file was submitted: sources are looked for here and beside `db`."""
    from mh_batch.store.connection import open_reader
    from mh_batch.store.reports.batches import sources

    if not db.exists():
        return False
    with closing(open_reader(db)) as reader:
        names = [name for name in sources(reader) if name != STDOUT]
    folders = (Path.cwd(), db.resolve().parent)
    places = {folder / name for name in names for folder in folders}
    return any(_same(place, target) for place in places)


def _same(place: Path, target: Path) -> bool:
    """Return whether both are one file, also through a link or, on a Mac, in other case."""
    try:
        return place.samefile(target)
    except OSError:
        return False


@contextmanager
def open_output(path: str) -> Iterator[TextIO]:
    """Open standard output for `-`, else a file that is written whole or not at all, in UTF-8.

    Line ends are not translated. A pipe or a device is written to directly. Raises
    `EnvironmentFault` on a full disk and the like.
    """
    if path == STDOUT:
        yield _utf8(sys.stdout)
        return
    target = Path(path).resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", newline="") as out:
                yield out
            return
        with replacing(target) as file:
            out = TextIOWrapper(file, encoding="utf-8", newline="")
            yield out
            if target.exists():
                os.fchmod(file.fileno(), S_IMODE(target.stat().st_mode))
            # `replacing` closes the file
            out.detach()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise EnvironmentFault(f"{path}: {error.strerror}") from None


class OutputFiles:
    """The open files of one export, by path; `rows` counts the rows of each."""

    def __init__(self, stack: ExitStack, *, raw_csv: bool = False) -> None:
        self.rows: dict[str, int] = {}
        self._stack = stack
        self._raw_csv = raw_csv
        self._writers: dict[str, Callable[[Line], object]] = {}

    def open(self, path: str, columns: Columns, ending: Ending = "jsonl") -> None:
        """Open a file of that kind; with `columns` it is CSV with a header."""
        out = self._stack.enter_context(open_output(path))
        self.rows[path] = 0
        if columns is not None:
            write = csv_writer(out, raw=self._raw_csv)
            write(columns)
            self._writers[path] = lambda row: write([row.get(name) for name in columns])
        elif ending == "parquet":
            self._writers[path] = self._stack.enter_context(parquet_writer(out.buffer))
        elif ending == "json":
            self._writers[path] = self._stack.enter_context(array_writer(out))
        else:
            self._writers[path] = json_writer(out)

    def write(
        self, path: str, row: Line, columns: Columns = None, ending: Ending = "jsonl"
    ) -> None:
        """Write one row; open the file first if it is not open."""
        if path not in self.rows:
            self.open(path, columns, ending)
        self._writers[path](row)
        self.rows[path] += 1


def write_output(path: Path, content: bytes) -> None:
    """Write a file of the user's choice, whole or not at all.

    Raises `EnvironmentFault` on a full disk and the like.
    """
    with open_output(str(path)) as out:
        out.buffer.write(content)


def print_json(value: object) -> None:
    """Print a value as a line of JSON."""
    with open_output(STDOUT) as out:
        json_writer(out)(value)


def _utf8(stream: TextIO) -> TextIO:
    """Return the stream in UTF-8, whatever the terminal's encoding: it carries JSON or CSV."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8", newline="")
    return stream
