"""Draws the next token of every row; rows with simple settings draw together.

Whether a row draws alone or with others, its token is the same: the noise of a row depends on its
own key, and what follows compares numbers or changes each by itself. Only a vocabulary that does
not fill whole vector registers is left to single draws: there the last numbers of a row might be
computed in another way, depending on what lies behind them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import mlx.core as mx

from mh_batch.engine.decoding.sampling import Sampler

_WHOLE = 64  # numbers: a multiple of every vector register's
_BELOW_ONE = 1 - 2.0**-24  # the largest number below 1 that a float32 can be


def draw(logits: Any, previous: Any, samplers: Sequence[Sampler | None]) -> Any:
    """Return a token for each row, `[rows]`, for logits `[rows, vocabulary]`.

    `previous`, `[rows]`, are the tokens before. A row without a sampler gets any token.
    """
    count, vocabulary = logits.shape
    busy = {i: sampler for i, sampler in enumerate(samplers) if sampler is not None}
    greedy = {i for i, sampler in busy.items() if sampler.greedy}
    plain = {i: sampler for i, sampler in busy.items() if sampler.plain}
    # noise for all rows is worth it only if half of them need it
    if 2 * len(plain) < count or vocabulary % _WHOLE:
        plain = {}
    together = previous
    if greedy:
        together = mx.argmax(logits, axis=-1).astype(mx.uint32)
    if plain:
        drawn = _drawn(logits, plain)
        random = [i in plain for i in range(count)]
        together = mx.where(mx.array(random), drawn, together) if greedy else drawn
    own = {i: sampler for i, sampler in busy.items() if i not in greedy and i not in plain}
    if not own:
        return together
    parts = list(mx.split(together, count))
    for i, sampler in own.items():
        row = logits[i : i + 1]
        one = _drawn(row, {0: sampler}) if sampler.plain else sampler(row, previous[i : i + 1])
        parts[i] = one.astype(mx.uint32)
    return mx.concatenate(parts)


def _drawn(logits: Any, samplers: Mapping[int, Sampler]) -> Any:
    """Return a random token for each row, drawn with its sampler; a row without one gets any."""
    count, vocabulary = logits.shape
    keys, sharpness = [(0, 0)] * count, [1.0] * count
    for i, sampler in samplers.items():
        keys[i], sharpness[i] = sampler.next_key(), sampler.sharpness
    scaled = logits.astype(mx.float32)
    if any(factor != 1 for factor in sharpness):
        scaled = scaled * mx.array(sharpness)[:, None]
    return mx.argmax(scaled + _noise(vocabulary)(mx.array(keys, dtype=mx.uint32)), axis=-1)


@cache
def _noise(vocabulary: int) -> Callable[[Any], Any]:
    """Return what makes Gumbel noise `[rows, vocabulary]` from keys `[rows, 2]`.

    It has the bits of `mx.random.gumbel`, in less time of this thread: only the random bits, which
    `split` hands out, are made under `vmap`.
    """
    if vocabulary % 2:
        gumbel: Callable[[Any], Any] = mx.vmap(lambda key: mx.random.gumbel((vocabulary,), key=key))
        return gumbel
    bits = mx.vmap(lambda key: mx.random.split(key, vocabulary // 2))

    def made(keys: Any) -> Any:
        uniform = mx.minimum(bits(keys).reshape(-1, vocabulary) * 2.0**-32, _BELOW_ONE)
        return -mx.log(-mx.log(uniform))

    return made
