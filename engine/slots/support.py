"""Whether a model can decode in slots, found out by what its caches and its modules are."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from mh_batch.engine.mlx_lm_internals import SORTED_FROM, expert_layers

from .row_caches import IdleCache, RowAttention, SlotCaches, UnusualAttention

_ORDINARY = (KVCache, RotatingKVCache)


class SlotSupport(NamedTuple):
    """What slots need to know of a model.

    `position_bytes` is the size of one position in each layer's cache, `windows` how many positions
    each of them keeps by itself; `None` keeps all. `vocabulary` is the number of logits. `most` is
    the highest number of slots that runs on the same kernels as fewer do; `None` for any number. A
    higher one is for a self-test to decide.
    """

    position_bytes: tuple[int, ...]
    windows: tuple[int | None, ...]
    vocabulary: int
    most: int | None


class _Tried(IdleCache):
    """Notes the size of what one layer keeps, and hands out a mask to see what becomes of it."""

    def __init__(self) -> None:
        self.nbytes = 0

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        self.nbytes += keys.nbytes + values.nbytes
        return keys, values

    def make_mask(self, *_: Any, **__: Any) -> Any:
        return mx.array([[True]])


def examine(model: Any) -> SlotSupport:
    """Run one token in two slots; raises `UnusualAttention` if the model cannot do that."""
    caches = make_prompt_cache(model)
    others = {type(cache).__name__ for cache in caches} - {kind.__name__ for kind in _ORDINARY}
    if others:
        raise UnusualAttention(f"its caches are of another kind: {', '.join(sorted(others))}")
    layers = [SlotCaches([_Tried(), _Tried()]) for _ in caches]
    with RowAttention(model), _experts_chosen() as chosen:
        try:
            logits = model(mx.zeros((2, 1), dtype=mx.uint32), cache=layers)
            mx.eval(logits)
        except UnusualAttention:
            raise
        except Exception as error:  # whatever a model does with a cache that is not its own
            raise UnusualAttention(f"it fails there: {error}") from error
    sizes = tuple(layer.rows[0].nbytes for layer in layers)
    if not all(sizes):
        raise UnusualAttention("some of its layers leave their cache alone")
    most = (SORTED_FROM - 1) // max(chosen) if chosen else None
    windows = tuple(getattr(cache, "max_size", None) for cache in caches)
    return SlotSupport(sizes, windows, logits.shape[-1], most)


@contextmanager
def _experts_chosen() -> Iterator[set[int]]:
    """Yield a set that receives how many experts a token goes to, from each layer that runs."""
    chosen: set[int] = set()
    with ExitStack() as undo:
        for kind in expert_layers():
            original = kind.__call__

            def call(layer: Any, x: Any, indices: Any, *, run: Any = original) -> Any:
                chosen.add(indices.shape[-1])
                return run(layer, x, indices)

            setattr(kind, "__call__", call)  # noqa: B010  # mypy knows no other way
            undo.callback(setattr, kind, "__call__", original)
        yield chosen
