"""Key-value caches: the model's own, with a window over full attention where asked for.

mlx-lm ignores `max_kv_size` for a model that makes its own caches, as gpt-oss does: there the
caches of full attention grow without bound. And its rotating cache masks out the kept positions
for chunks of the prompt that come after the window has filled.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)

from mh_batch.engine.mlx_lm_internals import ring_position

# these choose blocks of columns by their place in the cache, which a ring changes
_BY_PLACE = frozenset({"minimax_m3_vl"})


class WindowKVCache(RotatingKVCache):  # type: ignore[misc]
    """Keeps the first `keep` positions and the latest, `max_size` together, for any chunk size."""

    def __init__(self, max_size: int, keep: int) -> None:
        """Start empty. Raises `ValueError` unless `0 <= keep < max_size`."""
        if not 0 <= keep < max_size:
            raise ValueError(f"a window of {max_size} positions cannot keep {keep} for good")
        super().__init__(max_size=max_size, keep=keep)

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:
        """Return which columns each of the next `N` tokens may attend to.

        `None` is all, `"causal"` is all up to its own, else booleans `[N, columns]`.
        `window_size` is the layer's own sliding window, in positions. The names and their order
        are mlx-lm's.
        """
        last = self.offset + N
        fits = last <= min(self.max_size, window_size or self.max_size)
        if N == 1 and (fits or window_size is None):
            return None
        if fits and not return_array:
            return "causal"
        positions = self._next_positions() if N == 1 else self._chunk_positions(N)
        queries = mx.arange(self.offset, last)[:, None]
        distance = queries - positions
        mask = (distance >= 0) & ((distance < self.max_size - self.keep) | (positions < self.keep))
        return mask if window_size is None else mask & (distance < window_size)

    def _chunk_positions(self, count: int) -> Any:
        """Return the position of each column once a chunk of `count` tokens is appended."""
        columns = mx.arange(min(self.offset, self.max_size - 1) + count)
        shift = self.offset + count - columns.size
        return mx.where(columns < self.keep, columns, columns + shift)

    def _next_positions(self) -> Any:
        """Return the position of each column once one token is written in place."""
        columns = mx.arange(min(self.offset + 1, self.max_size))
        if self.offset < self.max_size:
            return columns
        place = ring_position(self)
        written = place if place < self.max_size else self.keep
        age = (written - columns) % (self.max_size - self.keep)
        return mx.where(columns < self.keep, columns, self.offset - age)


def make_caches(model: Any, max_kv_size: int | None, keep: int) -> list[Any]:
    """Return empty caches for `model`, one a layer.

    With `max_kv_size`, exactly the caches of full attention get a window. Sliding layers and other
    kinds of state stay as the model makes them, and so do all caches of a model for which a window
    would be wrong (MiniMax-M3): `layout` says what there is. `None` changes nothing.
    """
    caches = list(make_prompt_cache(model))
    if max_kv_size is None or getattr(model, "model_type", None) in _BY_PLACE:
        return caches
    return [_narrowed(entry, max_kv_size, keep) for entry in caches]


def _narrowed(entry: Any, max_size: int, keep: int) -> Any:
    """Return a window in place of a cache of full attention, also inside a layer's list."""
    # no isinstance: a subclass holds more than a window would
    if type(entry) is KVCache:
        return WindowKVCache(max_size, keep)
    if type(entry) is CacheList:
        return CacheList(*(_narrowed(part, max_size, keep) for part in entry.caches))
    return entry


def arrays(caches: Sequence[Any]) -> list[Any]:
    """Return the arrays of caches, each as a whole: unfilled places included."""
    found = tree_flatten([vars(part) for part in _parts(caches)])
    return [value for _, value in found if isinstance(value, mx.array)]


def copied(caches: Sequence[Any]) -> list[Any]:
    """Return a copy of evaluated caches that shares their arrays until either is written to.

    The states of convolutions are copied at once: mlx-lm keeps a view of the last rows of a chunk,
    which would keep the whole chunk in memory.
    """
    copies = copy.deepcopy(list(caches))
    for part in _parts(copies):
        if isinstance(part, ArraysCache):
            part.cache = [None if value is None else mx.contiguous(value) for value in part.cache]
            mx.eval(part.cache)
    return copies


def cached_length(caches: Sequence[Any]) -> int:
    """Return how many positions the fullest cache has."""
    return max((entry.size() for entry in caches), default=0)


def window(caches: Sequence[Any]) -> int | None:
    """Return the size of the window over full attention, `None` if there is none."""
    sizes = [part.max_size for part in _parts(caches) if isinstance(part, WindowKVCache)]
    return max(sizes, default=None)


def layout(caches: Sequence[Any]) -> str:
    """Return the kinds of caches and how many there are of each, joined by `+`."""
    counts: dict[str, int] = {}
    for entry in _parts(caches):
        size, keep = getattr(entry, "max_size", None), getattr(entry, "keep", 0)
        limits = f"({size}, keep {keep})" if keep else f"({size})" if size else ""
        name = type(entry).__name__ + limits
        counts[name] = counts.get(name, 0) + 1
    return "+".join(f"{name}\u00d7{count}" for name, count in sorted(counts.items()))


def _parts(caches: Sequence[Any]) -> Iterator[Any]:
    """Yield the caches; those of a layer with several one by one."""
    for entry in caches:
        if isinstance(entry, CacheList):
            yield from _parts(entry.caches)
        else:
            yield entry
