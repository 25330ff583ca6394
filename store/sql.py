"""The SQL that is long enough to live in files of its own, shipped with the package."""

import re
from functools import cache
from pathlib import Path

import msgspec

_NAME = re.compile(r"^-- name: (\S+)$", flags=re.MULTILINE)


class Entry(msgspec.Struct, frozen=True):
    """One named statement of a file; `about` is the comment under its name, on one line."""

    name: str
    about: str
    sql: str


@cache
def script(name: str) -> str:
    """Return the text of an SQL file of this package, such as `queue/claim_head.sql`."""
    return (Path(__file__).parent / name).read_text("utf-8")


def entries(text: str) -> dict[str, Entry]:
    """Return the statements of a text by name, in its order.

    Each begins with `-- name: ...`; the comment lines right below say what it is about. What
    stands before the first name is about the text itself.
    """
    parts = _NAME.split(text)[1:]
    found = [_entry(name, body) for name, body in zip(parts[::2], parts[1::2], strict=True)]
    return {entry.name: entry for entry in found}


def _entry(name: str, body: str) -> Entry:
    lines = body.strip().splitlines()
    comments = 0
    while comments < len(lines) and lines[comments].startswith("--"):
        comments += 1
    about = " ".join(line.removeprefix("--").strip() for line in lines[:comments])
    return Entry(name, about, "\n".join(lines[comments:]).strip().removesuffix(";"))
