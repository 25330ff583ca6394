"""Drawing a token, with keys of its own: MLX's global random state is never used.

Token `i` of an attempt is drawn with a key made from the attempt's seed and `i`, so the same
request gives the same tokens whatever ran before it in the process.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm import sample_utils

from mh_batch.jobs.settings import Sampling

Sampler = Callable[[Any], Any]
Processor = Callable[[Any, Any], Any]

_MASK = (1 << 64) - 1


def token_key(seed: int, index: int) -> int:
    """Return the 64-bit seed of token `index`, by the splitmix64 mixer.

    Neighbouring seeds and indices give unrelated keys, which adding them would not.
    """
    value = _mix(seed & _MASK)
    return _mix((value + (index + 1) * 0x9E3779B97F4A7C15) & _MASK)


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class KeyedSampler:
    """Draws the tokens of one attempt, in order: call `n` (from 0) draws token `n`."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._seed = seed
        self._index = 0

    def __call__(self, logprobs: Any) -> Any:
        """Return the drawn ids, shape `[batch]`, for log-probabilities `[batch, vocabulary]`."""
        index, self._index = self._index, self._index + 1
        temperature = self._sampling.temperature
        if temperature == 0:
            return mx.argmax(logprobs, axis=-1)
        kept = _filter(logprobs, self._sampling)
        key = mx.random.key(token_key(self._seed, index))
        return mx.random.categorical(kept * (1.0 / temperature), key=key)


def _filter(logprobs: Any, sampling: Sampling) -> Any:
    """Return `logprobs` without what top_p, min_p and top_k rule out, in mlx-lm's order."""
    if sampling.top_p < 1.0:
        logprobs = sample_utils.apply_top_p(logprobs, sampling.top_p)
    if sampling.min_p > 0.0:
        logprobs = sample_utils.apply_min_p(logprobs, sampling.min_p)
    # mlx-lm refuses a top_k that keeps everything
    if 0 < sampling.top_k < logprobs.shape[-1]:
        logprobs = sample_utils.apply_top_k(logprobs, sampling.top_k)
    return logprobs


def penalties(sampling: Sampling) -> list[Processor]:
    """Return what changes logits by the tokens so far; empty if no penalty is set."""
    window = sampling.repetition_window
    return list(
        sample_utils.make_logits_processors(
            repetition_penalty=_unless(sampling.repetition_penalty, 1.0),
            repetition_context_size=window,
            presence_penalty=_unless(sampling.presence_penalty, 0.0),
            presence_context_size=window,
            frequency_penalty=_unless(sampling.frequency_penalty, 0.0),
            frequency_context_size=window,
        )
    )


def _unless(value: float, off: float) -> float | None:
    """Return `value`, or `None` if it is the one that does nothing."""
    return None if value == off else value
