"""The decode loop of an answer that has a form.

The step behind a token is queued before that token is read, as in the free loop; only the draw
waits for the mask. So the mask is made while the device works. A step of several tokens at once,
where the form leaves no choice, would change the last bits of what follows: there is none.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import mlx.core as mx

from mh_batch.jobs.generation import StopReason

from .decode import Callbacks, Decoded, StopCriteria, cut_at_stop_sequence, stop_reason

WORD_BITS = 32
"""How many tokens a word of a mask stands for."""


class Constraint(Protocol):
    """Which tokens may come next.

    `error` says why the form cannot be kept to any longer, and is empty while it can. `mask` has a
    bit for each token, in words of 32 bits, the lowest token first.
    """

    error: str

    @property
    def mask(self) -> memoryview:
        """What may come next."""

    def advance(self, token: int) -> bool:
        """Take the next token; return whether the form is kept."""


def decode_constrained(
    model: Any,
    caches: list[Any],
    last_token: int,
    sampler: Callable[[Any, Any], Any],
    criteria: StopCriteria,
    callbacks: Callbacks,
    constraint: Constraint,
) -> Decoded:
    """Generate as `decode` does, but only what `constraint` allows.

    The mask comes before all that `sampler` does. A completion whose form cannot be kept ends as
    `StopReason.CONSTRAINT_FAILED` before the next draw.
    """
    out = Decoded()
    if constraint.error:
        out.stop_reason = StopReason.CONSTRAINT_FAILED
        return out
    clock = time.perf_counter
    start = clock()

    def step(token: Any) -> Any:
        logits = model(token[None], cache=caches)[:, -1, :]
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        return logits

    token = mx.array([last_token], dtype=mx.uint32)
    logits = step(token)
    for left in range(criteria.max_tokens - 1, -1, -1):
        words = mx.array(constraint.mask)  # type: ignore[arg-type]  # any buffer will do
        token = sampler(masked(logits, words[None]), token)
        mx.async_eval(token)  # type: ignore[no-untyped-call]
        if left:
            logits = step(token)
        if not out.tokens:
            mx.eval(token)
            out.first_drawn_seconds = clock() - start
        out.tokens.append(token.item())
        if len(out.tokens) == 1:
            out.first_token_seconds = clock() - start
        reason = end_of(out.tokens, criteria, callbacks, constraint)
        if reason is not None:
            out.stop_reason = reason
            break
        callbacks.progress(len(out.tokens))
    out.decode_seconds = clock() - start - out.first_token_seconds
    cut_at_stop_sequence(out, criteria)
    return out


def end_of(
    tokens: list[int], criteria: StopCriteria, callbacks: Callbacks, constraint: Constraint | None
) -> StopReason | None:
    """Return why the completion ends with the last of `tokens`, `None` if it goes on.

    If it does, `constraint` (`None` for a free answer) has taken that token.
    """
    reason = stop_reason(tokens, criteria, callbacks)
    if reason is not None or len(tokens) == criteria.max_tokens:
        return reason
    if constraint is not None and not constraint.advance(tokens[-1]):
        return StopReason.CONSTRAINT_FAILED
    return None


@mx.compile
def masked(logits: Any, words: Any) -> Any:
    """Return logits, `[rows, vocabulary]`, with -inf for what may not be drawn.

    `words` are the masks, `[rows, words]`; tokens beyond them may not be drawn either.
    """
    rows, vocabulary = logits.shape
    bits = (words[..., None] >> mx.arange(WORD_BITS, dtype=mx.uint32)) & 1
    allowed = bits.reshape(rows, -1)[:, :vocabulary].astype(mx.bool_)
    if (missing := vocabulary - allowed.shape[-1]) > 0:
        allowed = mx.concatenate([allowed, mx.zeros((rows, missing), dtype=mx.bool_)], axis=-1)
    return mx.where(allowed, logits, -mx.inf)
