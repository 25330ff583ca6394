"""What the engine asks of MLX's allocator: as little as possible."""

import mlx.core as mx

from mh_batch.jobs.settings import EngineOptions

LEAST_PREFIX_CACHE = 256 << 20
MOST_PREFIX_CACHE = 4 << 30
"""Bytes for the states of prompt beginnings on a machine with little memory, and with most."""


def past_high_water(cached_bytes: int, options: EngineOptions) -> bool:
    """Whether MLX holds more freed memory than it may from job to job."""
    return cached_bytes > options.cache_high_water_bytes


def prefix_cache_bytes(options: EngineOptions, machine_bytes: int) -> int:
    """Return how much the states of prompt beginnings may take on a machine of that memory.

    One of gpt-oss-20b behind 10,000 tokens has 250 MB: what suits the smallest Mac would leave a
    larger one to read its long conversations anew at every turn. There is a most as well, because
    a machine may tell of memory that this process cannot have (in a container).
    """
    if options.prefix_cache_bytes is not None:
        return options.prefix_cache_bytes
    return min(max(LEAST_PREFIX_CACHE, machine_bytes // 64), MOST_PREFIX_CACHE)


def wired_limit(options: EngineOptions, *, metal: bool) -> int | None:
    """Return the wired limit to set, in bytes; `None` to leave it alone."""
    return options.wired_limit_bytes if metal else None


def release(options: EngineOptions) -> bool:
    """Give freed memory back to the system if it is past the high-water mark; return whether."""
    if not past_high_water(mx.get_cache_memory(), options):
        return False
    mx.clear_cache()
    return True


def wire(options: EngineOptions) -> None:
    """Set the wired limit, if one is asked for and this is Metal."""
    limit = wired_limit(options, metal=mx.metal.is_available())
    if limit is not None:
        mx.set_wired_limit(limit)
