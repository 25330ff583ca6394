"""Filters of a distribution; each returns the logits with -inf for what may not be drawn.

Logits are float32 `[1, vocabulary]`, of any offset. The meanings are mlx-lm's
(`sample_utils`), without sorting 201,088 logits.
"""

import math
from typing import Any

import mlx.core as mx

_ONE = 0x3F800000  # the bits of 1.0 as float32: those of larger positive numbers are larger
_HALVINGS = _ONE.bit_length()


def top_p(logits: Any, mass: float) -> Any:
    """Keep the likeliest tokens that together just reach `mass`, and all equal to the last.

    A token stays if all likelier ones together have less than `mass`. The least probability that
    stays is found by bisection over the bits of a float32: exact, always on the device, and each
    of its 30 sums reads the vocabulary once.
    """
    weights = mx.exp(logits - mx.max(logits, axis=-1, keepdims=True))
    return mx.where(weights.view(mx.uint32) >= _least(weights, mass), logits, -math.inf)


@mx.compile
def _least(weights: Any, mass: float) -> Any:
    """Return the bits of the smallest weight (at most 1) that top_p keeps, a scalar."""
    bits = weights.view(mx.uint32)
    wanted = mass * weights.sum()
    # scalars and not [1, 1]: the fused comparison takes half the time
    low, high = mx.array(0, mx.uint32), mx.array(_ONE, mx.uint32)
    for _ in range(_HALVINGS):
        middle = (low + high) >> 1
        enough = mx.where(bits > middle, weights, 0.0).sum() < wanted
        high = mx.where(enough, middle, high)
        low = mx.where(enough, low, middle + 1)
    return high


def min_p(logits: Any, share: float) -> Any:
    """Keep the tokens at least `share` (above 0) as likely as the likeliest."""
    floor = mx.max(logits, axis=-1, keepdims=True) + math.log(share)
    return mx.where(logits < floor, -math.inf, logits)


def xtc(logits: Any, probability: float, threshold: float, protected: Any, key: Any) -> Any:
    """With `probability`, drop all tokens likelier than `threshold` except the least likely.

    The ids in `protected`, an array or `None`, are never dropped.
    """
    shares = mx.softmax(logits, axis=-1)
    least = mx.where(shares > threshold, shares, math.inf).min(axis=-1, keepdims=True)
    drop = shares > least
    if protected is not None:
        drop[..., protected] = False
    spared = mx.random.uniform(key=key) > probability
    return mx.where(spared, logits, mx.where(drop, -math.inf, logits))


def top_k(logits: Any, count: int) -> Any:
    """Return the ids of the `count` likeliest tokens, `[1, count]`, in no order."""
    return mx.argpartition(-logits, kth=count - 1, axis=-1)[..., :count]
