"""Which rows of a file are taken: the first ones, a random sample, each one or more times."""

import random
from collections.abc import Iterator
from itertools import islice

from .options import RowOptions
from .rows import Row, Rows


def chosen(rows: Rows, options: RowOptions) -> Iterator[Row]:
    """Yield the rows to take, in the order of the file; a sample is held in memory."""
    first = islice(rows, options.limit)
    if options.sample is None:
        return first
    return iter(_sample(first, options.sample, options.seed))


def _sample(rows: Iterator[Row], size: int, seed: int) -> list[Row]:
    """Return `size` rows, each with the same chance (reservoir sampling), by their numbers."""
    draw = random.Random(seed)
    kept: list[Row] = []
    for seen, row in enumerate(rows):
        if seen < size:
            kept.append(row)
        elif (place := draw.randrange(seen + 1)) < size:
            kept[place] = row
    return sorted(kept, key=lambda row: row.number)
