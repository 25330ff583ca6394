"""The loop that draws token after token, with the clock beside it.

Pipelined: the step for a token is queued on the device before that token is read here, so that
the device never waits for Python. Between two tokens nothing is decoded, concatenated or
allocated that grows with the completion, but for the list of ids.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from mh_batch.jobs.generation import StopReason

from .stop_sequences import StopTexts


@dataclass(frozen=True)
class Callbacks:
    """What the outside wants of a running decode.

    `cancelled` is asked at every token and every portion of the prompt; `progress` is told the
    number of tokens at every token that does not end the completion. `observe` is shown every token
    that ends nothing by itself; once it says yes the completion is a loop and ends. `None` for
    nobody who looks.
    """

    cancelled: Callable[[], bool]
    progress: Callable[[int], None]
    observe: Callable[[int], bool] | None = None


@dataclass(frozen=True)
class StopCriteria:
    """What ends a completion by itself: how many tokens, which tokens, which texts."""

    max_tokens: int
    stop_tokens: frozenset[int]
    stop_texts: StopTexts | None = None


@dataclass
class Decoded:
    """The tokens of one completion, why they ended, and what the clock said.

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
    draw: Callable[[Any, Any], Any],
    ends: StopCriteria,
    watch: Callbacks,
) -> Decoded:
    """Generate until something in `ends` or `watch` ends it; a stop token is kept.

    `caches` hold the prompt but for `last_token`, and afterwards also what was generated, with
    one token more or less. `draw` makes the next token `[1]` of logits `[1, vocabulary]` and the
    token before. The last token of a stop text is kept, what was drawn behind it is not.
    """
    out = Decoded()
    clock = time.perf_counter
    start = clock()

    def step(token: Any) -> Any:
        drawn = draw(model(token[None], cache=caches)[:, -1, :], token)
        mx.async_eval(drawn)  # type: ignore[no-untyped-call]
        return drawn

    coming = step(mx.array([last_token], dtype=mx.uint32))
    for left in range(ends.max_tokens - 1, -1, -1):
        token = coming
        if left:
            coming = step(token)
        if not out.tokens:
            mx.eval(token)
            out.first_drawn_seconds = clock() - start
        out.tokens.append(token.item())
        if len(out.tokens) == 1:
            out.first_token_seconds = clock() - start
        reason = _reason(out.tokens, ends, watch)
        if reason is not None:
            out.stop_reason = reason
            break
        watch.progress(len(out.tokens))
    out.decode_seconds = clock() - start - out.first_token_seconds
    _cut_at_stop_text(out, ends)
    return out


def _reason(tokens: list[int], ends: StopCriteria, watch: Callbacks) -> StopReason | None:
    """Return why the completion ends with the last of `tokens`, `None` if it goes on."""
    if tokens[-1] in ends.stop_tokens:
        return StopReason.STOP_TOKEN
    if ends.stop_texts is not None and ends.stop_texts.find(tokens) is not None:
        return StopReason.STOP_SEQUENCE
    if watch.observe is not None and watch.observe(tokens[-1]):
        return StopReason.LOOP_DETECTED
    if watch.cancelled():
        return StopReason.CANCELLED
    return None


def _cut_at_stop_text(out: Decoded, ends: StopCriteria) -> None:
    """Drop what came behind a stop text: the loop looks for them only every few tokens."""
    if ends.stop_texts is None or not out.tokens:
        return
    stopped = out.tokens[-1] in ends.stop_tokens
    count = ends.stop_texts.find(out.tokens[:-1] if stopped else out.tokens, whole=True)
    if count is not None:
        del out.tokens[count:]
        out.stop_reason = StopReason.STOP_SEQUENCE
