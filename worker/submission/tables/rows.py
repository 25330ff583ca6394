"""A row of a table, and where its tables come from."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol


class Row(NamedTuple):
    """A row: its number in the file, and its fields by column.

    `line` is the JSON that it was read from, if it was. `fault` says why it could not be read.
    """

    number: int
    fields: Mapping[str, Any] | None = None
    line: bytes | None = None
    fault: str | None = None


class Rows(Protocol):
    """The rows of one file, read once, a few at a time."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns; `None` where each row has its own."""
        ...

    @property
    def bytes_read(self) -> int:
        """About how much of the file was read."""
        ...

    def __iter__(self) -> Iterator[Row]: ...
