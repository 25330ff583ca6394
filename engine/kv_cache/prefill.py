"""Prefill: reads a prompt into caches, chunk by chunk, from the last state that is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mh_batch.jobs.settings import Context

from .caches import layout, make_caches
from .chunking import PromptParts, chunk_boundaries
from .prefix_cache import PrefixCache


@dataclass(frozen=True)
class Prefilled:
    """Caches that hold a prompt without its last token, unless `cancelled`.

    `done` tokens are in the caches; the first `reused` of them came from the prefix cache.
    """

    caches: list[Any]
    reused: int
    done: int
    cancelled: bool


def prefill(
    model: Any,
    prompt: Sequence[int],
    parts: PromptParts,
    context: Context,
    prefixes: PrefixCache,
    cancelled: Callable[[], bool],
) -> Prefilled:
    """Read `prompt` without its last token into caches of the layout that `context` asks for.

    The logits that follow are bit-equal whatever `prefixes` holds. `cancelled` is called before
    every chunk.
    """
    caches = make_caches(model, context.max_kv_size, context.kv_keep)
    boundaries = chunk_boundaries(prompt, parts, context.prefill_step, layout(caches))
    found = prefixes.deepest(boundaries, parts)
    retained = prefixes.plan(boundaries, parts)
    done, first = 0, 0
    if found is not None:
        index, caches = found
        done, first = boundaries[index].end, index + 1
    reused = done
    tokens = mx.array(list(prompt), dtype=mx.uint32)
    for boundary in boundaries[first:]:
        if cancelled():
            return Prefilled(caches, reused, done, cancelled=True)
        model(tokens[None, done : boundary.end], cache=caches)
        mx.eval([cache.state for cache in caches])
        done = boundary.end
        if boundary.digest in retained:
            prefixes.put(boundary, caches, retained[boundary.digest])
    return Prefilled(caches, reused, done, cancelled=cancelled())
