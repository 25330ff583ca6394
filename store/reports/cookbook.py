"""The cookbook: questions that people ask of a night, with their SQL, by name."""

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import UnknownTarget
from mh_batch.store.sql import Entry, entries, script


def recipes() -> dict[str, Entry]:
    """Return every recipe by its name, in the order of the book; `about` is its question."""
    return entries(script("reports/cookbook.sql"))


def recipe(name: str) -> Entry:
    """Return one recipe; raises `UnknownTarget` naming the nearest one, or all of them."""
    book = recipes()
    if name in book:
        return book[name]
    near = nearest(name, book)
    cure = f"did you mean {near}?" if near else f"there are {', '.join(book)}"
    raise UnknownTarget(f"no recipe {name!r}; {cure}")
