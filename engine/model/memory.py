"""Memory limits: of the prefix cache, and of what MLX keeps after a job."""

import mlx.core as mx

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
