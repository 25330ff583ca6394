"""Runs given tokens on a model, in slots or alone, and keeps the logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from mh_batch.engine.kv_cache.caches import copied
from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.engine.kv_cache.prefill import Prefill
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.slots.row_caches import IDLE, RowAttention, SlotCaches

from .samples import Sample

WHOLE = PromptParts(0, (), 0)
"""A prompt in which no part ends."""


class Read(NamedTuple):
    """A sample whose prompt is in caches, which are copied for each use."""

    sample: Sample
    caches: Sequence[Any]


class Decoded(NamedTuple):
    """The logits of each step, and the caches behind the last one."""

    logits: Sequence[Any]
    caches: Sequence[Any]


class Rows:
    """Decodes the samples of one model in a number of slots; `alive` is called between steps."""

    def __init__(self, model: Any, count: int, alive: Callable[[], None]) -> None:
        self.count = count
        self.model = model
        self._attention = RowAttention(model)
        self.alive = alive

    def read(
        self, sample: Sample, parts: PromptParts = WHOLE, prefixes: PrefixCache | None = None
    ) -> Read:
        """Read the prompt of a sample; `None` reuses nothing."""
        kept = PrefixCache(0) if prefixes is None else prefixes
        reading = Prefill(self.model, sample.prompt, parts, sample.context, kept)
        while not reading.finished:
            reading.step()
            self.alive()
        return Read(sample, reading.caches)

    def alone(self, read: Read) -> Decoded:
        """Decode a sample as it is done without slots."""
        caches = copied(read.caches)
        logits = []
        for token in read.sample.fed:
            step = self.model(mx.array([[token]], dtype=mx.uint32), cache=caches)[0, -1]
            mx.eval(step)
            logits.append(step)
            self.alive()
        return Decoded(logits, caches)

    def together(self, rows: Mapping[int, Read]) -> dict[int, Decoded]:
        """Decode samples side by side, each in the slot that is its key; the others are idle."""
        caches = {slot: copied(read.caches) for slot, read in rows.items()}
        layers = self.layers(caches)
        fed = {slot: read.sample.fed for slot, read in rows.items()}
        logits: dict[int, list[Any]] = {slot: [] for slot in rows}
        for step in range(len(next(iter(fed.values())))):
            made = self.step({slot: tokens[step] for slot, tokens in fed.items()}, layers)
            for slot, kept in logits.items():
                kept.append(made[slot])
        return {slot: Decoded(logits[slot], caches[slot]) for slot in rows}

    def layers(self, caches: Mapping[int, Sequence[Any]]) -> list[SlotCaches]:
        """Return the caches of each layer in all slots, from those of each slot in use."""
        count = len(next(iter(caches.values())))
        return [
            SlotCaches([caches[s][i] if s in caches else IDLE for s in range(self.count)])
            for i in range(count)
        ]

    def step(self, tokens: Mapping[int, int], layers: Sequence[SlotCaches]) -> Any:
        """Run one step on the tokens of the slots in use; return the logits of all."""
        column = mx.array([[tokens.get(s, 0)] for s in range(self.count)], dtype=mx.uint32)
        with self._attention:
            logits = self.model(column, cache=layers)[:, -1, :]
        mx.eval(logits)
        self.alive()
        return logits
