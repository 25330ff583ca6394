"""Changes to the logits before sampling: penalties over the last tokens, and logit biases."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import mlx.core as mx

from mh_batch.jobs.errors import JobError
from mh_batch.jobs.settings import Sampling


class TokenWindow:
    """The last `window` tokens, in a ring on the device that is written in place.

    `ids` is uint32 `[1, window]`; `filled` is float32 of the same shape, 1 where there is
    a token. Until the window is full, the rest of `ids` repeats one of its tokens.
    """

    def __init__(self, tokens: Sequence[int], window: int) -> None:
        """Begin with the last of `tokens`, at least one."""
        tail = list(tokens[-window:])
        spare = window - len(tail)
        self.ids = mx.array([tail + tail[-1:] * spare], dtype=mx.uint32)
        self.filled = mx.array([[1.0] * len(tail) + [0.0] * spare])
        self._window = window
        self._count = len(tail)

    def push(self, token: Any) -> None:
        """Add a token, `[1]`, in place of the oldest."""
        at = self._count % self._window
        self.ids[:, at] = token
        if self._count < self._window:
            self.filled[:, at] = 1.0
        self._count += 1


class Bias(NamedTuple):
    """Values that are added to the logits of some tokens.

    `ids` are uint32, `values` float32; `highest` is the largest id.
    """

    ids: Any
    values: Any
    highest: int

    @classmethod
    def of(cls, sampling: Sampling) -> Self | None:
        """Return the bias of these settings, `None` for none."""
        if not sampling.logit_bias:
            return None
        tokens = [int(token) for token in sampling.logit_bias]
        values = mx.array(list(sampling.logit_bias.values()), dtype=mx.float32)
        return cls(mx.array(tokens, dtype=mx.uint32), values, max(tokens))

    def check(self, vocabulary: int) -> None:
        """Raise `JobError` if an id is outside the vocabulary: MLX would write there."""
        if self.highest >= vocabulary:
            raise JobError(
                f"logit_bias: {self.highest} is no token of this model, which has {vocabulary}"
            )


class Penalties:
    """Repetition, presence and frequency penalty and logit bias of one attempt, as in mlx-lm.

    The penalties look at the last `repetition_window` tokens of prompt and completion.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        """Begin behind `prompt`, of at least one token."""
        self._sampling = sampling
        # a window larger than prompt and completion would only take memory
        window = min(sampling.repetition_window, len(prompt) + sampling.max_tokens)
        self._recent = TokenWindow(prompt, window) if penalises(sampling) else None
        self._bias = Bias.of(sampling)

    def check(self, vocabulary: int) -> None:
        """Raise `JobError` if a bias is for a token that the vocabulary does not have."""
        if self._bias is not None:
            self._bias.check(vocabulary)

    def push(self, token: Any) -> None:
        """Add the token, `[1]`, that was drawn last."""
        if self._recent is not None:
            self._recent.push(token)

    def __call__(self, logits: Any) -> Any:
        """Return the changed logits, `[1, vocabulary]`.

        Raises `JobError` if a bias is for a token that the vocabulary does not have.
        """
        self.check(logits.shape[-1])
        if self._bias is not None:
            logits = logits.at[0, self._bias.ids].add(self._bias.values)
        if self._recent is not None:
            logits = _penalised(logits, self._recent, self._sampling)
        return logits


def penalises(sampling: Sampling) -> bool:
    """Whether any penalty is set."""
    return (
        sampling.repetition_penalty != 1
        or sampling.presence_penalty != 0
        or sampling.frequency_penalty != 0
    )


def _penalised(logits: Any, recent: TokenWindow, sampling: Sampling) -> Any:
    """Return logits with the penalties that are set; a token twice in `ids` counts once.

    Except for the frequency penalty, equal ids read and write the same value, so their order does
    not matter.
    """
    if sampling.repetition_penalty != 1:
        there = mx.take_along_axis(logits, recent.ids, axis=-1)
        factor = sampling.repetition_penalty
        lower = mx.where(there < 0, there * factor, there / factor)
        logits = mx.put_along_axis(logits, recent.ids, lower, axis=-1)
    if sampling.presence_penalty != 0:
        there = mx.take_along_axis(logits, recent.ids, axis=-1)
        lower = there - sampling.presence_penalty
        logits = mx.put_along_axis(logits, recent.ids, lower, axis=-1)
    if sampling.frequency_penalty != 0:
        lower = recent.filled[0] * -sampling.frequency_penalty
        logits = logits.at[0, recent.ids[0]].add(lower)
    return logits
