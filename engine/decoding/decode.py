"""The decode loop: draws token after token, and times them.

It is pipelined: the step for a token is queued on the device before that token is read here, so
that the device never waits for Python. Between two tokens nothing is decoded, concatenated or
allocated that grows with the completion, except for the list of ids.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from mh_batch.jobs.generation import StopReason

from .stop_sequences import StopSequenceFinder


@dataclass(frozen=True)
class Callbacks:
    """What a running attempt calls.

    `cancelled` is called at every chunk of the prompt and every token; once it returns true the
    attempt ends. `progress` is called with the number of tokens at every token that does not end
    the completion. `is_loop` is called with every token that ends nothing by itself; once it
    returns true the completion ends as a loop. `None` looks for no loops.
    """

    cancelled: Callable[[], bool]
    progress: Callable[[int], None]
    is_loop: Callable[[int], bool] | None = None


@dataclass(frozen=True)
class StopCriteria:
    """What ends a completion: a number of tokens, a stop token, a stop sequence."""

    max_tokens: int
    stop_tokens: frozenset[int]
    stop_sequences: StopSequenceFinder | None = None


@dataclass
class Decoded:
    """The tokens of one completion, why they ended, and the times in seconds.

    `first_drawn_seconds` is the time until the first token was drawn, `first_token_seconds` until
    it was read, `decode_seconds` from there to the last token.
    """

    tokens: list[int] = field(default_factory=list)
    stop_reason: StopReason = StopReason.MAX_TOKENS
    first_drawn_seconds: float = 0.0
    first_token_seconds: float = 0.0
    decode_seconds: float = 0.0


def decode(
    model: Any,
    caches: list[Any],
    last_token: int,
    sampler: Callable[[Any, Any], Any],
    criteria: StopCriteria,
    callbacks: Callbacks,
) -> Decoded:
    """Generate until `criteria` or `callbacks` end the completion; a stop token is kept.

    `caches` hold the prompt without `last_token`, and afterwards also the completion, with one
    token more or less. `sampler` returns the next token, `[1]`, for logits `[1, vocabulary]` and
    the token before. The last token of a stop sequence is kept, tokens behind it are not.
    """
    out = Decoded()
    clock = time.perf_counter
    start = clock()

    def step(token: Any) -> Any:
        drawn = sampler(model(token[None], cache=caches)[:, -1, :], token)
        mx.async_eval(drawn)  # type: ignore[no-untyped-call]
        return drawn

    coming = step(mx.array([last_token], dtype=mx.uint32))
    for left in range(criteria.max_tokens - 1, -1, -1):
        token = coming
        if left:
            coming = step(token)
        if not out.tokens:
            mx.eval(token)
            out.first_drawn_seconds = clock() - start
        out.tokens.append(token.item())
        if len(out.tokens) == 1:
            out.first_token_seconds = clock() - start
        reason = stop_reason(out.tokens, criteria, callbacks)
        if reason is not None:
            out.stop_reason = reason
            break
        callbacks.progress(len(out.tokens))
    out.decode_seconds = clock() - start - out.first_token_seconds
    cut_at_stop_sequence(out, criteria)
    return out


def stop_reason(
    tokens: list[int], criteria: StopCriteria, callbacks: Callbacks
) -> StopReason | None:
    """Return why the completion ends with the last of `tokens`, `None` if it goes on."""
    if tokens[-1] in criteria.stop_tokens:
        return StopReason.STOP_TOKEN
    if criteria.stop_sequences is not None and criteria.stop_sequences.find(tokens) is not None:
        return StopReason.STOP_SEQUENCE
    if callbacks.is_loop is not None and callbacks.is_loop(tokens[-1]):
        return StopReason.LOOP_DETECTED
    if callbacks.cancelled():
        return StopReason.CANCELLED
    return None


def cut_at_stop_sequence(out: Decoded, criteria: StopCriteria) -> None:
    """Drop the tokens behind a stop sequence: the loop looks for one only every few tokens."""
    if criteria.stop_sequences is None or not out.tokens:
        return
    stopped = out.tokens[-1] in criteria.stop_tokens
    count = criteria.stop_sequences.find(out.tokens[:-1] if stopped else out.tokens, whole=True)
    if count is not None:
        del out.tokens[count:]
        out.stop_reason = StopReason.STOP_SEQUENCE
