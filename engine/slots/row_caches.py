"""Attention row by row: each row on its own, ordinary cache, in one call of the model.

Linear layers run on all rows together, which is where batching wins. Attention runs on each row's
own cache, so that a row's result cannot depend on how long its neighbours are: a padded or merged
batch cache changes it (in mlx-lm's `BatchRotatingKVCache` the place of a row's ring depends on the
other rows).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, Self

import mlx.core as mx

from mh_batch.engine.mlx_lm_internals import ATTENTION, attention_modules


class UnusualAttention(Exception):
    """The model's attention does not have the form that runs row by row; the text says why."""


class IdleCache:
    """The cache of an empty slot: its token attends to itself, and nothing is kept."""

    offset = 0

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Return the keys and values of this token alone."""
        return keys, values

    def make_mask(self, *_: Any, **__: Any) -> Any:
        """Return no mask."""
        return None


IDLE = IdleCache()


class RowMasks(NamedTuple):
    """The mask of each row, as its cache made it."""

    rows: tuple[Any, ...]


class SlotCaches:
    """The caches of one layer in all slots, which the model's code takes for one cache."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = list(rows)
        self._offset: Any = None
        self._updated: tuple[Any, Any] | None = None
        self._fetched: list[tuple[Any, Any]] = []

    def put(self, slot: int, cache: Any) -> None:
        """Give a slot another cache."""
        self.rows[slot], self._offset = cache, None

    @property
    def offset(self) -> Any:
        """The position of each row's next token, `[slots]`."""
        if self._offset is None:
            self._offset = mx.array([row.offset for row in self.rows], dtype=mx.int32)
        return self._offset

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Add a token to each row's cache; return the arguments, for `attend` to know them."""
        count = len(self.rows)
        each = zip(self.rows, mx.split(keys, count), mx.split(values, count), strict=True)
        self._fetched = [row.update_and_fetch(k, v) for row, k, v in each]
        self._updated, self._offset = (keys, values), None
        return keys, values

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:
        """Return the masks of the rows, `None` if none has one; the names are mlx-lm's."""
        masks = [
            row.make_mask(N, window_size=window_size, return_array=return_array)
            for row in self.rows
        ]
        return None if all(mask is None for mask in masks) else RowMasks(tuple(masks))

    def attend(
        self, queries: Any, keys: Any, values: Any, scale: float, mask: Any, sinks: Any
    ) -> Any:
        """Return the attention of each row over its own cache.

        Raises `UnusualAttention` unless `keys` and `values` are what `update_and_fetch` returned,
        and `mask` what `make_mask` did.
        """
        if self._updated is None or keys is not self._updated[0] or values is not self._updated[1]:
            raise UnusualAttention("it changes keys or values behind the cache")
        if not (mask is None or isinstance(mask, RowMasks)):
            raise UnusualAttention("it makes masks of its own")
        masks = (None,) * len(self.rows) if mask is None else mask.rows
        each = zip(self.rows, mx.split(queries, len(self.rows)), self._fetched, masks, strict=True)
        attended = [
            ATTENTION(query, *fetched, cache=row, scale=scale, mask=own, sinks=sinks)
            for row, query, fetched, own in each
        ]
        # not kept until the next step: there may be none for a long time
        self._updated, self._fetched = None, []
        return mx.concatenate(attended)


def attend(
    queries: Any,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: Any,
    sinks: Any = None,
) -> Any:
    """Take the place of mlx-lm's `scaled_dot_product_attention`; other caches are left to it."""
    if isinstance(cache, SlotCaches):
        return cache.attend(queries, keys, values, scale, mask, sinks)
    return ATTENTION(queries, keys, values, cache=cache, scale=scale, mask=mask, sinks=sinks)


class RowAttention:
    """Lets a model attend row by row inside a `with` block."""

    def __init__(self, model: Any) -> None:
        """Raises `UnusualAttention` if no module of the model calls mlx-lm's attention."""
        self._modules: tuple[ModuleType, ...] = attention_modules(model)
        if not self._modules:
            raise UnusualAttention("it does not call mlx-lm's attention")

    def __enter__(self) -> Self:
        for module in self._modules:
            module.scaled_dot_product_attention = attend  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        for module in self._modules:
            module.scaled_dot_product_attention = ATTENTION  # type: ignore[attr-defined]
