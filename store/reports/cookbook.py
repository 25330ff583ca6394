"""The cookbook: questions that people ask about a database, with their SQL, by name."""

from collections.abc import Mapping

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import UnknownTarget
from mh_batch.store.sql import Entry, statements


def recipes() -> Mapping[str, Entry]:
    """Return every recipe by its name, in the order of the book; `about` is its question."""
    return statements("reports/cookbook.sql")


def recipe(name: str) -> Entry:
    """Return one recipe; raises `UnknownTarget` with the nearest name, or with all of them."""
    book = recipes()
    if name in book:
        return book[name]
    hint = nearest(name, book)
    cure = f"did you mean {hint}?" if hint else f"must be one of {', '.join(book)}"
    raise UnknownTarget(f"no recipe {name!r}; {cure}")
