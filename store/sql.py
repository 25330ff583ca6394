"""SQL that is long enough for a file of its own, shipped with the package."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from sqlite_utils import Database

DECODE_SPEED = "sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.machine_seconds), 0)"
"""The decode speed over timing rows `m`, `{decode_speed}` in the files of `reports/`.

It is `decoded_tokens` and `decode_speed` of jobs/generation.py in SQL, over the machine's time:
attempts that decode side by side share the clock. The files of `schema/` spell it out, because a
migration never changes.
"""

ATTEMPT_SPEED = "nullif(max(m.completion_tokens - 1, 0), 0) / nullif(m.machine_seconds, 0)"
"""The same over one timing row, `{attempt_speed}`; NULL where nothing was decoded."""

BUSY_ROWS = "sum(m.rows * m.machine_seconds) / nullif(sum(m.machine_seconds), 0)"
"""How many slots were busy on average over timing rows `m`, `{busy_rows}`."""

T = TypeVar("T")
SHARED = {
    "{decode_speed}": DECODE_SPEED,
    "{attempt_speed}": ATTEMPT_SPEED,
    "{busy_rows}": BUSY_ROWS,
}
"""What the files of `reports/` share, by the name that stands for it there."""

_NAME = re.compile(r"^-- name: (\S+)$", flags=re.MULTILINE)


class Entry(msgspec.Struct, frozen=True):
    """A named statement of a file; `about` is the comment below its name, as one line."""

    name: str
    about: str
    sql: str


@cache
def script(name: str) -> str:
    """Return the text of an SQL file of this package, such as `schema/tables.sql`."""
    text = (Path(__file__).parent / name).read_text("utf-8")
    for name, sql in SHARED.items():
        text = text.replace(name, sql)
    return text


@cache
def statements(name: str) -> Mapping[str, Entry]:
    """Return the statements of an SQL file by name, such as those of `reports/timings.sql`."""
    return MappingProxyType(entries(script(name)))


def entries(text: str) -> dict[str, Entry]:
    """Return the statements of a file's text by name, in their order.

    Each begins with `-- name: ...`; the comment lines right below say what it is about. What
    stands before the first name is about the file.
    """
    parts = _NAME.split(text)[1:]
    found = [_entry(name, body) for name, body in zip(parts[::2], parts[1::2], strict=True)]
    return {entry.name: entry for entry in found}


class BatchQueries:
    """Statements by name, each run for one batch, `:batch`; `None` stands for all batches."""

    def __init__(self, db: Database, batch_id: int | None, statements: Mapping[str, str]) -> None:
        self._conn = db.conn
        self._batch_id = batch_id
        self._statements = statements

    def rows(self, name: str, kind: type[T], **values: int) -> tuple[T, ...]:
        """Return the rows of a statement as structs of `kind`."""
        return tuple(msgspec.convert(dict(row), kind) for row in self._run(name, values))

    def value(self, name: str, **values: int) -> Any:
        """Return the first column of the first row."""
        return self._run(name, values).fetchone()[0]

    def _run(self, name: str, values: Mapping[str, int]) -> Any:
        return self._conn.execute(self._statements[name], {"batch": self._batch_id, **values})


def _entry(name: str, body: str) -> Entry:
    lines = body.strip().splitlines()
    comments = 0
    while comments < len(lines) and lines[comments].startswith("--"):
        comments += 1
    about = " ".join(line.removeprefix("--").strip() for line in lines[:comments])
    return Entry(name, about, "\n".join(lines[comments:]).strip().removesuffix(";"))
