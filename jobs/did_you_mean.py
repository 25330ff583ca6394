"""Suggests the known name that a mistyped one was probably meant to be."""

import difflib
from collections.abc import Collection
from functools import lru_cache

LONGEST_NAME = 100


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name to suggest for a wrong `name`, or `None` if nothing is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return close[0] if close else None


def near_miss(name: str, known: frozenset[str]) -> str | None:
    """Return the known name that `name` is almost surely a misspelling of, or `None`.

    Stricter than `nearest`: users' own keys (`prompt_id`, `mode`) must stay possible. A name longer
    than `LONGEST_NAME` is no misspelling.
    """
    return _near_miss(name, known) if len(name) <= LONGEST_NAME else None


# the lines of a file repeat their keys
@lru_cache(maxsize=4096)
def _near_miss(name: str, known: frozenset[str]) -> str | None:
    folded = _fold(name)
    for candidate in sorted(known):
        other = _fold(candidate)
        if folded == other or folded == other + "s" or folded + "s" == other:
            return candidate
        if len(folded) > 3 and sorted(folded) == sorted(other):
            return candidate
        if difflib.SequenceMatcher(None, folded, other).ratio() >= 0.9:
            return candidate
    return None


def _fold(name: str) -> str:
    """Fold case and separators away: `maxTokens`, `max-tokens` and `max_tokens` are one."""
    return name.lower().replace("_", "").replace("-", "")
