"""The response prefill that forces a final answer from an analysis that never ended.

An attempt can spend all its tokens on its analysis. The next one need not repeat it: its prompt
ends with that analysis, cut where it began to loop, and an opened final channel. The messages are
written again with proper headers, so that a mangled header does not spoil the answer; messages
that had proper headers keep the ids that the model wrote.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mh_batch.engine.decoding.loop_detector import ending_loop
from mh_batch.engine.parsing.message import END
from mh_batch.jobs.generation import StopReason

from . import tolerant_parser
from .parse_ladder import parse_harmony
from .special_tokens import CHANNEL, LAST_KNOWN, MESSAGE, START, is_utf8, spell
from .vocabulary import harmony_encoding

# a character has at most four bytes, a token at least one
_LONGEST_TAIL = 3


class _Said(NamedTuple):
    """One message of the assistant that calls nothing: its channel and the ids of its text."""

    channel: str
    words: tuple[int, ...]


def forced_final_prefill(tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
    """Return the prefill that forces a final answer from the completion `tokens`.

    Empty unless `tokens` end inside an analysis and hold no final text and no call: where the
    parse of a stream cut by length or as a loop says `analysis_not_ended`. The analysis is cut at
    its end until the prefill has at most `most` ids (or no analysis); `None` keeps all.
    """
    if "analysis_not_ended" not in parse_harmony(tokens, StopReason.MAX_TOKENS).problems:
        return ()
    loop = ending_loop([min(max(token, 0), LAST_KNOWN) for token in tokens])
    said = _said(tokens if loop is None else tokens[: loop.keep])
    return _written(said if most is None else _shortened(said, most))


def _said(tokens: Sequence[int]) -> list[_Said]:
    """Return what the assistant thought, and said between its thoughts."""
    reading = tolerant_parser.read(tokens)
    return [
        _Said(message.channel, words)
        for message, words in zip(reading.messages, reading.contents, strict=True)
        if message.role == "assistant"
        and message.channel in ("analysis", "commentary")
        and message.recipient is None
    ]


def _shortened(said: list[_Said], most: int) -> list[_Said]:
    """Return as much of the beginning of `said` as makes a prefill of at most `most` ids."""
    kept = list(said)
    while kept and (excess := len(_written(kept)) - most) > 0:
        channel, words = kept.pop()
        if excess < len(words):
            kept.append(_Said(channel, words[: len(words) - excess]))
    return kept


def _written(said: Sequence[_Said]) -> tuple[int, ...]:
    """Return the ids of the messages, all ended, and of the header of a final one."""
    encode = harmony_encoding().encode
    ids: list[int] = []
    for index, (channel, words) in enumerate(said):
        whole = _whole(words if index < len(said) - 1 else _without_cut_character(words))
        ids += [CHANNEL, *encode(channel), MESSAGE, *whole, END, START, *encode("assistant")]
    return (*ids, CHANNEL, *encode("final"), MESSAGE)


def _whole(words: tuple[int, ...]) -> Sequence[int]:
    """Return `words`, written anew if their bytes are no whole characters."""
    return words if is_utf8(words) else harmony_encoding().encode(spell(words))


def _without_cut_character(words: tuple[int, ...]) -> tuple[int, ...]:
    """Return `words` without the last few if they are the beginning of a character."""
    for tail in range(min(_LONGEST_TAIL, len(words)) + 1):
        kept = words[: len(words) - tail]
        if not spell(kept).endswith("\ufffd"):
            return kept
    return words
