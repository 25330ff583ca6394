"""How fast a model decodes in numbers of slots, and which number to use."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mlx.core as mx

from mh_batch.engine.kv_cache.caches import copied

from .rows import Rows
from .samples import Sample

SIZES = (1, 2, 4, 8, 16)
LEAST_GAIN = 1.05
"""A larger number of slots has to be faster than a smaller one by this factor."""

SECONDS = 1.0
LEAST_STEPS, MOST_STEPS = 3, 64
"""Each size is timed for so long, with at least and at most so many steps."""


class Speed(NamedTuple):
    """Tokens a second of all slots together, and the most memory that MLX had meanwhile."""

    tokens_per_second: float
    memory_bytes: int


def measure(model: Any, sample: Sample, count: int, alive: Callable[[], None]) -> Speed:
    """Decode the same prompt in so many slots; one is decoded as without slots."""
    rows = Rows(model, count, alive)
    read = rows.read(sample)
    mx.reset_peak_memory()
    caches = {slot: copied(read.caches) for slot in range(count)}
    tokens = dict.fromkeys(caches, sample.fed[0])
    layers = caches[0] if count == 1 else rows.layers(caches)

    def step() -> None:
        if count == 1:
            mx.eval(model(mx.array([[tokens[0]]], dtype=mx.uint32), cache=layers))
            alive()
        else:
            rows.step(tokens, layers)

    step()  # compiles kernels and makes room
    steps, began = 0, time.perf_counter()
    while steps < LEAST_STEPS or (steps < MOST_STEPS and time.perf_counter() - began < SECONDS):
        step()
        steps += 1
    seconds = time.perf_counter() - began
    return Speed(steps * count / seconds, mx.get_peak_memory())


def recommended(speeds: Mapping[int, float]) -> int:
    """Return the number of slots to use: the fastest, but none larger for little more speed."""
    best, *larger = sorted(speeds)
    for count in larger:
        if speeds[count] > LEAST_GAIN * speeds[best]:
            best = count
    return best
