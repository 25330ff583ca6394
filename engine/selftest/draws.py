"""Draws tokens from given logits in slots, as a decode does."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.slots.joint_draw import draw
from mh_batch.jobs.settings import Sampling

DRAWN = (
    Sampling(temperature=1),
    Sampling(temperature=1, top_p=0.9),
    Sampling(temperature=0.7),
    Sampling(temperature=1),
)
"""Settings of rows: most draw together beside others of their kind, and by themselves alone."""


class Drawing(NamedTuple):
    """The logits of each step of a row, and with which settings and seed it is drawn from."""

    logits: Sequence[Any]
    sampling: Sampling
    seed: int

    @property
    def name(self) -> str:
        """The settings for a person."""
        return f"temperature {self.sampling.temperature:g}, top_p {self.sampling.top_p:g}"


def drawn(rows: Mapping[int, Drawing], count: int) -> dict[int, tuple[int, ...]]:
    """Draw from rows side by side, each in the slot that is its key; the others are idle."""
    samplers = {slot: Sampler(row.sampling, row.seed, ()) for slot, row in rows.items()}
    steps = min(len(row.logits) for row in rows.values())
    idle = mx.zeros_like(next(iter(rows.values())).logits[0])
    tokens, made = mx.zeros((count,), dtype=mx.uint32), []
    for step in range(steps):
        logits = [rows[slot].logits[step] if slot in rows else idle for slot in range(count)]
        tokens = draw(mx.stack(logits), tokens, [samplers.get(slot) for slot in range(count)])
        made.append(tokens.tolist())
    return {slot: tuple(each[slot] for each in made) for slot in rows}
