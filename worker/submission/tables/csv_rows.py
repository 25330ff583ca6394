"""The rows of a CSV file, each with the number of the line that it begins on."""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from mh_batch.jobs.errors import InputError

from .rows import Row

BINARY = (b"\x1f\x8b", b"PK\x03\x04", b"PAR1")
_SKIP_BYTES = 1 << 20


class CsvRows:
    """Reads CSV in UTF-8 with a header.

    The delimiter is the one of the file's ending, or what the header has in its place: some
    spreadsheets write semicolons. Raises `InputError` for a file without a header of distinct
    names, or one that is not text.
    """

    def __init__(self, stream: BinaryIO, source: str, delimiter: str, max_row_bytes: int) -> None:
        self._lines = _TextLines(stream, max_row_bytes)
        self._source = source
        # a cell may be as long as a line
        csv.field_size_limit(max_row_bytes)
        first = self._lines.peek()
        if b"\0" in first or first.startswith(BINARY):
            raise InputError(f"{source}: a binary file, not CSV")
        self._reader = csv.reader(self._lines, delimiter=_delimiter(first, delimiter), strict=True)
        self.columns = self._header()

    @property
    def bytes_read(self) -> int:
        """How much of the file was read."""
        return self._lines.bytes_read

    def __iter__(self) -> Iterator[Row]:
        """Yield a row for each record; an empty line is none."""
        while True:
            number = self._lines.count + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (csv.Error, _BadText) as error:
                yield Row(number, fault=f"not CSV: {error}")
                continue
            if not cells:
                continue
            if len(cells) != len(self.columns):
                fault = f"{len(cells)} cells, where the header has {len(self.columns)}"
                yield Row(number, fault=fault)
                continue
            yield Row(number, dict(zip(self.columns, cells, strict=True)))

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader, None)
        except (csv.Error, _BadText) as error:
            raise InputError(f"{self._source}:1: not CSV: {error}") from None
        if not names:
            raise InputError(f"{self._source}: empty, there is no header")
        columns = tuple(name.strip() or f"column {i}" for i, name in enumerate(names, start=1))
        check_columns(self._source, columns)
        return columns


def check_columns(source: str, columns: tuple[str, ...]) -> None:
    """Raise `InputError` if two columns have one name."""
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source}: two columns are named {twice!r}")


def _delimiter(header: bytes, usual: str) -> str:
    """Return the delimiter of a header: the usual one, unless only another is in it."""
    others = [other for other in (",", ";", "\t") if other.encode() in header]
    return usual if usual.encode() in header or not others else others[0]


class _BadText(Exception):
    """A line is not UTF-8, or too long."""


class _TextLines:
    """The lines of a stream as texts, with their ends; `count` is how many were read."""

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self.count = 0
        self.bytes_read = 0
        self._stream = stream
        self._max_bytes = max_bytes
        self._first: bytes | None = None

    def peek(self) -> bytes:
        """Return the first line, which is read again."""
        first = self._stream.readline(self._max_bytes + 1)
        self._first = first.removeprefix(b"\xef\xbb\xbf")
        return self._first

    def __iter__(self) -> "_TextLines":
        return self

    # not a generator: that would end with the first error
    def __next__(self) -> str:
        line, self._first = self._first, None
        if line is None:
            line = self._stream.readline(self._max_bytes + 1)
        if not line:
            raise StopIteration
        self.count += 1
        self.bytes_read += len(line)
        if len(line) > self._max_bytes:
            self._skip(line)
            most = self._max_bytes >> 20
            raise _BadText(f"longer than {most} MiB; --max-line-mib takes longer ones")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
            raise _BadText(f"not UTF-8: {where}") from None

    def _skip(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(_SKIP_BYTES)
            self.bytes_read += len(line)
