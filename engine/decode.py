"""The one place that runs the model: prompt in, token ids out, with the clock beside it."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

from mh_batch.jobs.generation import StopReason
from mh_batch.jobs.settings import Sampling

from .sampling import KeyedSampler, penalties


@dataclass(frozen=True)
class Watch:
    """What the outside wants of a running decode.

    `cancelled` is asked at every token and every chunk of the prompt; `progress` is told the
    number of tokens at every token.
    """

    cancelled: Callable[[], bool]
    progress: Callable[[int], None]


@dataclass
class Decoded:
    """The tokens of one completion, why they ended, and what the clock and the caches said.

    `prefill_seconds` is the time until the prompt was in the caches and the first token drawn,
    `first_token_seconds` until it was read, `decode_seconds` from there to the last token.
    """

    tokens: list[int] = field(default_factory=list)
    stop_reason: StopReason = StopReason.MAX_TOKENS
    prefill_seconds: float = 0.0
    first_token_seconds: float = 0.0
    decode_seconds: float = 0.0
    kv_len: int = 0
    kv_layout: str = ""


class _Cancelled(Exception):
    """Ends a prefill from inside mlx-lm's progress callback."""


def decode(
    model: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    seed: int,
    stop_tokens: frozenset[int],
    watch: Watch,
) -> Decoded:
    """Generate until a stop token (kept), `sampling.max_tokens`, or a cancel.

    `seed` fixes every token together with the weights, the prompt and `sampling`.
    """
    cache = make_prompt_cache(model)
    out = Decoded(kv_layout=layout(cache))
    start = time.perf_counter()

    def prefilled(done: int, total: int) -> None:
        if watch.cancelled():
            raise _Cancelled
        if done == total:
            out.prefill_seconds = time.perf_counter() - start

    steps = generate_step(
        mx.array(list(prompt), dtype=mx.uint32),
        model,
        max_tokens=sampling.max_tokens,
        sampler=KeyedSampler(sampling, seed),
        logits_processors=penalties(sampling),
        prompt_cache=cache,
        prompt_progress_callback=prefilled,
    )
    # closed here and not by the garbage collector: a suspended step keeps its stream the default
    with closing(steps):
        try:
            _collect(steps, out, stop_tokens, watch, start)
        except _Cancelled:
            out.stop_reason = StopReason.CANCELLED
    out.kv_len = max((getattr(entry, "offset", 0) for entry in cache), default=0)
    return out


def _collect(
    steps: Any, out: Decoded, stop_tokens: frozenset[int], watch: Watch, start: float
) -> None:
    """Read tokens into `out` until one of them, or `watch`, ends it."""
    tokens = out.tokens
    clock = time.perf_counter
    for token, _ in steps:
        tokens.append(token)
        if len(tokens) == 1:
            out.first_token_seconds = clock() - start
        if token in stop_tokens:
            out.stop_reason = StopReason.STOP_TOKEN
            break
        if watch.cancelled():
            out.stop_reason = StopReason.CANCELLED
            break
        watch.progress(len(tokens))
    if tokens:
        out.decode_seconds = clock() - start - out.first_token_seconds


def layout(cache: Sequence[Any]) -> str:
    """Return the kinds of caches and how many layers have each, joined by `+`."""
    counts: dict[str, int] = {}
    for entry in cache:
        size = getattr(entry, "max_size", None)
        name = type(entry).__name__ + (f"({size})" if size else "")
        counts[name] = counts.get(name, 0) + 1
    return "+".join(f"{name}\u00d7{count}" for name, count in sorted(counts.items()))
