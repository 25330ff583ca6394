"""A prompt into caches, portion by portion, beginning where an earlier prompt had come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mh_batch.jobs.settings import Context

from .caches import layout, make_caches
from .chunking import Boundaries, make_cuts
from .prefix_cache import PrefixCache


@dataclass(frozen=True)
class Prefilled:
    """Caches that hold a prompt but for its last token, unless `cancelled`.

    The first `reused` tokens were there already; `done` are in the caches.
    """

    caches: list[Any]
    reused: int
    done: int
    cancelled: bool


def prefill(
    model: Any,
    prompt: Sequence[int],
    boundaries: Boundaries,
    context: Context,
    prefixes: PrefixCache,
    cancelled: Callable[[], bool],
) -> Prefilled:
    """Read all of `prompt` but its last token into caches of `context`'s layout.

    The logits that follow are the same to the bit whatever `prefixes` holds. `cancelled` is
    asked before every portion.
    """
    caches = make_caches(model, context.max_kv_size, context.kv_keep)
    cuts = make_cuts(prompt, boundaries, context.prefill_step, layout(caches))
    found = prefixes.deepest(cuts, boundaries)
    wanted = prefixes.plan(cuts, boundaries)
    done, first = 0, 0
    if found is not None:
        index, caches = found
        done, first = cuts[index].end, index + 1
    reused = done
    tokens = mx.array(list(prompt), dtype=mx.uint32)
    for cut in cuts[first:]:
        if cancelled():
            return Prefilled(caches, reused, done, cancelled=True)
        model(tokens[None, done : cut.end], cache=caches)
        mx.eval([cache.state for cache in caches])
        done = cut.end
        if cut.digest in wanted:
            prefixes.put(cut, caches, wanted[cut.digest])
    return Prefilled(caches, reused, done, cancelled=cancelled())
