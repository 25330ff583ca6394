"""A file that is submitted, of any kind: JSON lines, CSV, Parquet, or a saved data set."""

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from mh_batch.jobs.errors import BadLine, InputError
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.jsonl.lines import LineReader
from mh_batch.jobs.record import JobLine

from .arrow_rows import parquet_rows, saved_files, saved_rows
from .csv_rows import CsvRows
from .json_rows import JsonRows
from .options import AS_IT_IS, RowOptions
from .reader import RowReader
from .rows import Rows

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
HASH_BYTES = 1 << 20


class Lines(Protocol):
    """The jobs of a file, read once.

    `source` is its name. After the last, `sha256` is the hash of the file. `lines` counts what was
    read.
    """

    source: str
    lines: int

    @property
    def bytes_read(self) -> int:
        """How much of the file was read."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of the file, in hex."""
        ...

    def take_raw(self) -> bytes | None:
        """Return the text of the latest line, `None` if there is none to keep."""
        ...

    def __iter__(self) -> Iterator[JobLine | BadLine]: ...


class Source:
    """JSON lines from a stream, and what to make of them."""

    def __init__(self, stream: BinaryIO, options: RowOptions = AS_IT_IS) -> None:
        self.options = options
        self._stream = stream

    @property
    def size(self) -> int | None:
        """How many bytes it has; `None` if that shows only in the end."""
        status = os.fstat(self._stream.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def digest(self) -> str | None:
        """Return the hash of what is to be read; `None` if it can be read only once."""
        if not self._stream.seekable():
            return None
        begin = self._stream.tell()
        digest = hashlib.sha256()
        _hash(self._stream, digest.update)
        self._stream.seek(begin)
        return digest.hexdigest()

    def lines(self, name: str, inherited: Inherited, max_line_bytes: int) -> Lines:
        """Return the reader of the jobs; `name` is the file's name in messages."""
        if not self.options.changes_rows:
            defaults = self.options.defaults
            return LineReader(self._stream, name, inherited, max_line_bytes, defaults)
        # with a limit, not all of the file is read
        whole = self.digest() if self.options.limit is not None else None
        rows = JsonRows(self._stream, name, max_line_bytes)

        def sha256() -> str:
            return whole or rows.sha256

        return RowReader(rows, name, inherited, max_line_bytes, self.options, sha256)


class TableSource(Source):
    """A table in one file or several; `open_rows` takes its name and the longest row."""

    def __init__(
        self,
        stream: BinaryIO,
        files: list[Path],
        options: RowOptions,
        open_rows: Callable[[str, int], Rows],
    ) -> None:
        super().__init__(stream, options)
        self._files = files
        self._open_rows = open_rows

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum(path.stat().st_size for path in self._files)

    def digest(self) -> str:
        """Return the hash of its files."""
        digest = hashlib.sha256()
        for path in self._files:
            with path.open("rb") as stream:
                _hash(stream, digest.update)
        return digest.hexdigest()

    def lines(self, name: str, inherited: Inherited, max_line_bytes: int) -> Lines:
        """Return the reader of the jobs; `name` is the file's name in messages."""
        rows = self._open_rows(name, max_line_bytes)
        return RowReader(rows, name, inherited, max_line_bytes, self.options, self.digest)


@contextmanager
def open_source(source: str, options: RowOptions = AS_IT_IS) -> Iterator[Source]:
    """Open a file by its ending, `-` for JSON lines from standard input.

    Raises `InputError` if it cannot be read.
    """
    if source == "-":
        yield Source(sys.stdin.buffer, options)
        return
    path = Path(source)
    try:
        files = saved_files(path, source) if path.is_dir() else [path]
        with files[0].open("rb") as stream:
            yield _source(path, files, stream, options)
    except FileNotFoundError:
        raise InputError(f"{source}: no such file") from None
    except PermissionError:
        raise InputError(f"{source}: no permission to read it") from None


def _source(path: Path, files: list[Path], stream: BinaryIO, options: RowOptions) -> Source:
    ending = path.suffix.lower()

    def open_rows(name: str, max_row_bytes: int) -> Rows:
        if files != [path]:
            return saved_rows(files, name)
        if ending in PARQUET:
            return parquet_rows(stream, name, path.stat().st_size)
        return CsvRows(stream, name, DELIMITERS[ending], max_row_bytes)

    if files != [path] or ending in PARQUET or ending in DELIMITERS:
        return TableSource(stream, files, options, open_rows)
    return Source(stream, options)


def _hash(stream: BinaryIO, update: Callable[[bytes], object]) -> None:
    while block := stream.read(HASH_BYTES):
        update(block)
