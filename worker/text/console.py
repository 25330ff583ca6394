"""Text for a terminal, with control characters escaped."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .escape import escape_controls

UNFOLDED = 1_000_000


def plain(text: str, style: str = "") -> Text:
    """Return rich text with control characters escaped: `\\x1b` instead of the escape itself."""
    return Text(escape_controls(text), style=style)


def shortened(name: str, width: int) -> str:
    """Return a name in `width` cells, with its beginning and its end."""
    if cell_len(name) <= width:
        return name
    begin, end = Text(name), name
    begin.truncate((width - 1) // 2)
    while cell_len(end) > width - 1 - begin.cell_len:
        end = end[1:]
    # half of a wide character was left out and filled with a space
    return f"{begin.plain.rstrip()}…{end}"


def console() -> Console:
    """Return standard output; a pipe or a file has no width, so lines are not folded."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)


def print_text(out: Console, text: str, style: str = "") -> None:
    """Print one text, control characters escaped; where nothing is styled or folded, without rich.

    Rich takes ten times as long, which counts in a conversation of many thousand messages.
    """
    if out.is_terminal:
        out.print(plain(text, style))
    else:
        print(escape_controls(text), file=out.file)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their columns; `None` is empty."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(plain(column), overflow="fold")
    for row in rows:
        table.add_row(*(plain("" if value is None else str(value)) for value in row))
    console().print(table)
