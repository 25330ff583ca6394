"""What the engine asks of MLX's allocator: as little as possible."""

import mlx.core as mx

from mh_batch.jobs.settings import EngineOptions


def past_high_water(cached_bytes: int, options: EngineOptions) -> bool:
    """Whether MLX holds more freed memory than it may from job to job."""
    return cached_bytes > options.cache_high_water_bytes


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
