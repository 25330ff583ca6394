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
    keys, sharpness = [(0, 0)] * count, [[1.0]] * count
    for i, sampler in samplers.items():
        keys[i], sharpness[i] = sampler.next_key(), [sampler.sharpness]
    noise = _noise(vocabulary)(mx.array(keys, dtype=mx.uint32))
    scaled = logits.astype(mx.float32) * mx.array(sharpness)
    return mx.argmax(scaled + noise, axis=-1).astype(mx.uint32)


@cache
def _noise(vocabulary: int) -> Callable[[Any], Any]:
    """Return what makes Gumbel noise `[rows, vocabulary]` from keys `[rows, 2]`."""
    made: Callable[[Any], Any] = mx.vmap(lambda key: mx.random.gumbel((vocabulary,), key=key))
    return made
