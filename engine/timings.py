"""The timing row of one attempt: what the clock, the caches and the memory say."""

import mlx.core as mx
import psutil

from mh_batch.jobs.generation import Timings, decoded_tokens

from .decoding.decode import Decoded
from .kv_cache.caches import cached_length, layout, window
from .kv_cache.prefill import Prefilled


def attempt_timings(
    prompt_tokens: int, prefilled: Prefilled, decoded: Decoded, seconds: float
) -> Timings:
    """Return the timings of prefill and decode; the caches were filled within `seconds`.

    `prefill_seconds` ends when the first token is drawn, which reads the prompt's last.
    """
    completion_tokens = len(decoded.tokens)
    # the last token of a prompt is read by the first step of the decode
    read = prefilled.done - prefilled.reused + (completion_tokens > 0)
    prefill_seconds = seconds + decoded.first_drawn_seconds
    return Timings(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        prefill_seconds=prefill_seconds,
        first_token_seconds=seconds + decoded.first_token_seconds if completion_tokens else 0.0,
        decode_seconds=decoded.decode_seconds,
        reused_tokens=prefilled.reused,
        prefill_tokens=read,
        prefill_tokens_per_second=_rate(read, prefill_seconds),
        tokens_per_second=_rate(decoded_tokens(completion_tokens), decoded.decode_seconds),
        kv_len=cached_length(prefilled.caches),
        max_kv_size=window(prefilled.caches),
        kv_layout=layout(prefilled.caches),
        machine_seconds=decoded.decode_seconds,
    )


def memory_use(process: psutil.Process) -> dict[str, int]:
    """Return the memory fields of a timing row, in bytes."""
    return {
        "active_memory_bytes": mx.get_active_memory(),
        "peak_memory_bytes": mx.get_peak_memory(),
        "cache_memory_bytes": mx.get_cache_memory(),
        "process_memory_bytes": process.memory_info().rss,
    }


def _rate(count: int, seconds: float) -> float | None:
    """Return `count` a second, `None` where nothing was counted or timed."""
    return count / seconds if count > 0 and seconds > 0 else None
