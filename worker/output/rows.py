"""Rows as CSV or as JSON lines; on a terminal, with control characters escaped."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import msgspec

from mh_batch.worker.text.escape import escape_controls, escape_json_controls

# OWASP's list; the last four are full-width forms, which spreadsheets accept too
_RUNS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", flags=re.ASCII)


def csv_writer(out: TextIO, *, raw: bool = False) -> Callable[[Iterable[Any]], object]:
    """Return a function that writes a row of CSV (RFC 4180).

    An apostrophe is put before what a spreadsheet would run as a formula, unless `raw` is set. On
    a terminal, control characters are escaped.
    """
    shown = out.isatty()
    writer = csv.writer(out, lineterminator="\n" if shown else "\r\n")

    def write(row: Iterable[Any]) -> object:
        cells = row if raw else map(harmless, row)
        return writer.writerow(map(_visible_cell, cells) if shown else cells)

    return write


def json_writer(out: TextIO) -> Callable[[object], object]:
    """Return what writes a value as a line of JSON; on a terminal nothing in it steers it."""
    shown = out.isatty()

    def write(value: object) -> object:
        line = msgspec.json.encode(value).decode()
        return out.write(f"{escape_json_controls(line) if shown else line}\n")

    return write


@contextmanager
def array_writer(out: TextIO) -> Iterator[Callable[[object], object]]:
    """Give what writes the values of a JSON array, one a line; the block ends the array."""
    write_value = json_writer(out)
    begun = False

    def write(value: object) -> None:
        nonlocal begun
        out.write("," if begun else "[")
        begun = True
        write_value(value)

    yield write
    out.write("]\n" if begun else "[]\n")


def harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs: text like a formula gets an apostrophe in front.

    Plain numbers, such as `-1.5` and `+3e4`, stay.
    """
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    # spreadsheets skip white space in front
    if cell.startswith(_RUNS) or cell.lstrip().startswith(_RUNS):
        return f"'{cell}"
    return cell


def _visible_cell(cell: Any) -> Any:
    return escape_controls(cell) if isinstance(cell, str) else cell
