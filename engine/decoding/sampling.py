"""Draws tokens with explicit keys: MLX's global random state is never used.

Token `i` of an attempt is drawn with a key made from the attempt's seed and `i`, so the same
request gives the same tokens whatever ran before it in the process.
"""

from collections.abc import Collection, Sequence
from typing import Any

import mlx.core as mx

from mh_batch.jobs.settings import Sampling

from . import filters
from .penalties import Penalties, penalises

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


class Sampler:
    """Draws the tokens of one attempt, in order: call `n` (from 0) draws token `first + n`.

    `greedy` says whether it takes the likeliest token, `plain` whether it draws by temperature
    alone; both whatever came before. `sharpness` is what logits are multiplied by before a random
    draw.
    """

    def __init__(
        self,
        sampling: Sampling,
        seed: int,
        prompt: Sequence[int],
        protected: Collection[int] = (),
        first: int = 0,
    ) -> None:
        """Start behind `prompt` with token `first`; XTC never drops the ids in `protected`.

        `first` is how many tokens of the same answer `prompt` ends with: their numbers are used.
        """
        self._sampling = sampling
        self._seed = seed
        self._first = self._index = first
        self._penalties = None
        if penalises(sampling) or sampling.logit_bias:
            self._penalties = Penalties(sampling, prompt)
        self._protected = mx.array(sorted(protected), dtype=mx.uint32) if protected else None
        filtered = sampling.top_p < 1 or sampling.min_p > 0 or sampling.top_k > 0
        filtered = filtered or sampling.xtc_probability > 0
        self.greedy = sampling.temperature == 0 and self._penalties is None
        self.plain = sampling.temperature > 0 and not filtered and self._penalties is None
        self.sharpness = 1.0 / sampling.temperature if sampling.temperature > 0 else 1.0

    def check(self, vocabulary: int) -> None:
        """Raise `JobError` if there is a bias for a token that the vocabulary does not have."""
        if self._penalties is not None:
            self._penalties.check(vocabulary)

    def next_key(self) -> tuple[int, int]:
        """Return the key of the next token, which is drawn elsewhere, as two 32-bit numbers."""
        index, self._index = self._index, self._index + 1
        return divmod(token_key(self._seed, index), 1 << 32)

    def __call__(self, logits: Any, previous: Any) -> Any:
        """Return the drawn id, `[1]`, for logits `[1, vocabulary]`.

        `previous`, `[1]`, is the token before it; it need not be evaluated yet. Raises `JobError`
        if there is a bias for a token that the vocabulary does not have.
        """
        index, self._index = self._index, self._index + 1
        if self._penalties is not None:
            logits = logits.astype(mx.float32)
            if index > self._first:
                self._penalties.push(previous)
            logits = self._penalties(logits)
        if self._sampling.temperature == 0:
            return mx.argmax(logits, axis=-1)
        key = mx.random.key(token_key(self._seed, index))
        return self._drawn(logits.astype(mx.float32), key)

    def _drawn(self, logits: Any, key: Any) -> Any:
        """Return a random id from what the filters leave; they run in mlx-lm's order."""
        sampling = self._sampling
        if sampling.top_p < 1:
            logits = filters.top_p(logits, sampling.top_p)
        if sampling.min_p > 0:
            logits = filters.min_p(logits, sampling.min_p)
        if sampling.xtc_probability > 0:
            key, xtc_key = mx.random.split(key)
            logits = filters.xtc(
                logits,
                sampling.xtc_probability,
                sampling.xtc_threshold,
                self._protected,
                xtc_key,
            )
        sharpness = self.sharpness
        if not 0 < sampling.top_k < logits.shape[-1]:
            return mx.random.categorical(logits * sharpness, key=key)
        ids = filters.top_k(logits, sampling.top_k)
        among = mx.take_along_axis(logits, ids, axis=-1)
        drawn = mx.random.categorical(among * sharpness, key=key)
        return mx.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0]
