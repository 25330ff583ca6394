"""Prefill: reads a prompt into caches, chunk by chunk, from the last state that is kept."""

from collections import deque
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


class Prefill:
    """Reads a prompt without its last token, one chunk a call.

    The caches have the layout that `context` asks for. The logits that follow are bit-equal
    whatever `prefixes` holds.
    """

    def __init__(
        self,
        model: Any,
        prompt: Sequence[int],
        parts: PromptParts,
        context: Context,
        prefixes: PrefixCache,
    ) -> None:
        """Begin at the last state that `prefixes` has."""
        self.caches = make_caches(model, context.max_kv_size, context.kv_keep)
        boundaries = chunk_boundaries(prompt, parts, context.prefill_step, layout(self.caches))
        found = prefixes.deepest(boundaries, parts)
        self._retained = prefixes.plan(boundaries, parts)
        self.done, first = 0, 0
        if found is not None:
            index, self.caches = found
            self.done, first = boundaries[index].end, index + 1
        self.reused = self.done
        self._model = model
        self._prefixes = prefixes
        self._tokens = mx.array(list(prompt), dtype=mx.uint32)
        self._left = deque(boundaries[first:])

    @property
    def finished(self) -> bool:
        """Whether the whole prompt is in the caches."""
        return not self._left

    def step(self) -> None:
        """Read the next chunk, and keep its state if it is likely to be used again."""
        boundary = self._left.popleft()
        self._model(self._tokens[None, self.done : boundary.end], cache=self.caches)
        mx.eval([cache.state for cache in self.caches])
        self.done = boundary.end
        if boundary.digest in self._retained:
            self._prefixes.put(boundary, self.caches, self._retained[boundary.digest])

    def result(self, *, cancelled: bool = False) -> Prefilled:
        """Return the caches as they are."""
        return Prefilled(self.caches, self.reused, self.done, cancelled)


def prefill(
    model: Any,
    prompt: Sequence[int],
    parts: PromptParts,
    context: Context,
    prefixes: PrefixCache,
    cancelled: Callable[[], bool],
) -> Prefilled:
    """Read a prompt to its end; `cancelled` is called before every chunk and at the end."""
    reading = Prefill(model, prompt, parts, context, prefixes)
    while not reading.finished:
        if cancelled():
            return reading.result(cancelled=True)
        reading.step()
    return reading.result(cancelled=cancelled())
