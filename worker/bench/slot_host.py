"""The time that Python takes for a step in slots, beyond what the model's own code takes."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.model.load import load
from mh_batch.engine.slots.joint_draw import draw
from mh_batch.engine.slots.row_caches import RowAttention, SlotCaches
from mh_batch.jobs.settings import Sampling

from .workload import SEED

PROMPT = 30


def host_seconds(name: str, count: int, steps: int) -> float:
    """Return the seconds of this thread to build a step of `count` rows, less those of one batch.

    The batch has one ordinary cache a layer and takes the likeliest tokens; each slot has its own
    caches and is drawn from with a temperature of 1. The device's work is not in it.
    """
    model = load(name).model
    rows = zip(*(_caches(model, 1) for _ in range(count)), strict=True)
    layers = [SlotCaches(row) for row in rows]
    samplers = [Sampler(Sampling(), SEED + i, ()) for i in range(count)]
    tokens = mx.zeros((count,), dtype=mx.uint32)

    def in_slots() -> Any:
        with RowAttention(model):
            logits = model(tokens[:, None], cache=layers)[:, -1, :]
        return draw(logits, tokens, samplers)

    caches = _caches(model, count)

    def in_batch() -> Any:
        return mx.argmax(model(tokens[:, None], cache=caches)[:, -1, :], axis=-1)

    measured = [(_built(in_slots), _built(in_batch)) for _ in range(steps)]
    return median(slots - batch for slots, batch in measured)


def _caches(model: Any, count: int) -> list[Any]:
    """Return caches that hold a prompt of `count` rows."""
    caches: list[Any] = make_prompt_cache(model)
    # the logits of a prompt are of no use here, and take longer than all else
    model(mx.zeros((count, PROMPT), dtype=mx.uint32), cache=caches)
    mx.eval([cache.state for cache in caches])
    return caches


def _built(step: Callable[[], Any]) -> float:
    """Return the processor time of this thread for a step that is not run yet, and run it."""
    start = time.thread_time()
    drawn = step()
    seconds = time.thread_time() - start
    mx.eval(drawn)
    return seconds
