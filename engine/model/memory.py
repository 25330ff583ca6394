"""Memory limits: of the caches, of the prefix cache, and of what MLX keeps after a job."""

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mh_batch.jobs.settings import EngineOptions

LEAST_PREFIX_CACHE = 256 << 20
MOST_PREFIX_CACHE = 4 << 30
"""The prefix cache's size in bytes on a machine with little memory, and its maximum."""


def prefix_cache_bytes(options: EngineOptions, machine_bytes: int) -> int:
    """Return the size of the prefix cache on a machine with that much memory.

    A state of gpt-oss-20b after 10,000 tokens takes 250 MB. A size that suits the smallest Mac
    would make a larger one prefill long conversations again at every turn. There is a maximum,
    because a machine may report memory that this process cannot use (in a container).
    """
    if options.prefix_cache_bytes is not None:
        return options.prefix_cache_bytes
    return min(max(LEAST_PREFIX_CACHE, machine_bytes // 64), MOST_PREFIX_CACHE)


def kv_bytes(options: EngineOptions, weight_bytes: int, machine_bytes: int) -> int:
    """Return how much the caches of conversations may take together on this device.

    That is what Metal recommends to use (elsewhere three quarters of the machine's memory), less
    the weights.
    """
    if options.kv_bytes is not None:
        return options.kv_bytes
    recommended = mx.device_info().get("max_recommended_working_set_size", machine_bytes // 4 * 3)
    return max(int(recommended) - weight_bytes, 0)


def weight_bytes(model: Any) -> int:
    """Return the size of a model's weights."""
    return sum(value.nbytes for _, value in tree_flatten(model.parameters()))


def release(options: EngineOptions) -> bool:
    """Return freed memory to the system if it is past the high-water mark; return whether."""
    if mx.get_cache_memory() <= options.cache_high_water_bytes:
        return False
    mx.clear_cache()
    return True


def wire(options: EngineOptions) -> None:
    """Set the wired limit, if one is asked for and this is Metal."""
    if options.wired_limit_bytes is not None and mx.metal.is_available():
        mx.set_wired_limit(options.wired_limit_bytes)
