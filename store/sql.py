"""The SQL that is long enough to live in files of its own, shipped with the package."""

from functools import cache
from pathlib import Path


@cache
def script(name: str) -> str:
    """Return the text of the SQL file `name` of this package."""
    return Path(__file__).with_name(name).read_text("utf-8")
