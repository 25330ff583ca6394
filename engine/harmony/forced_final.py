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

from .parse_ladder import parse_harmony
from .special_tokens import CHANNEL, LAST_KNOWN, MESSAGE, START, is_utf8, spell
from .tolerant import parser as tolerant_parser
from .vocabulary import harmony_encoding

# a character has at most four bytes, a token at least one
_LONGEST_TAIL = 3


class _Message(NamedTuple):
    """A message of the assistant without a call: its channel and the ids of its text."""

    channel: str
    ids: tuple[int, ...]


def forced_final_prefill(tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
    """Return the prefill that forces a final answer from the completion `tokens`.

    Empty unless `tokens` end inside an analysis and hold no final text and no call: where the
    parse of a stream cut by length or as a loop says `analysis_not_ended`. The analysis is cut at
    its end until the prefill has at most `most` ids (or no analysis); `None` keeps all.
    """
    if "analysis_not_ended" not in parse_harmony(tokens, StopReason.MAX_TOKENS).problems:
        return ()
    loop = ending_loop([min(max(token, 0), LAST_KNOWN) for token in tokens])
    messages = _messages(tokens if loop is None else tokens[: loop.keep])
    return _encoded(messages if most is None else _shortened(messages, most))


def _messages(tokens: Sequence[int]) -> list[_Message]:
    """Return the analysis messages, and the commentary between them."""
    reading = tolerant_parser.read(tokens)
    return [
        _Message(message.channel, words)
        for message, words in zip(reading.messages, reading.contents, strict=True)
        if message.role == "assistant"
        and message.channel in ("analysis", "commentary")
        and message.recipient is None
    ]


def _shortened(messages: list[_Message], most: int) -> list[_Message]:
    """Return as much of the beginning of `messages` as makes a prefill of at most `most` ids."""
    kept = list(messages)
    while kept and (excess := len(_encoded(kept)) - most) > 0:
        channel, words = kept.pop()
        if excess < len(words):
            kept.append(_Message(channel, words[: len(words) - excess]))
    return kept


def _encoded(messages: Sequence[_Message]) -> tuple[int, ...]:
    """Return the ids of the messages, all closed, and of the header of a final message."""
    encode = harmony_encoding().encode
    ids: list[int] = []
    for index, (channel, words) in enumerate(messages):
        whole = _whole_characters(
            words if index < len(messages) - 1 else _without_cut_character(words)
        )
        ids += [CHANNEL, *encode(channel), MESSAGE, *whole, END, START, *encode("assistant")]
    return (*ids, CHANNEL, *encode("final"), MESSAGE)


def _whole_characters(words: tuple[int, ...]) -> Sequence[int]:
    """Return `words`, encoded again if their bytes are not whole characters."""
    return words if is_utf8(words) else harmony_encoding().encode(spell(words))


def _without_cut_character(words: tuple[int, ...]) -> tuple[int, ...]:
    """Return `words` without the last ids if these are the beginning of a character."""
    for tail in range(min(_LONGEST_TAIL, len(words)) + 1):
        kept = words[: len(words) - tail]
        if not spell(kept).endswith("\ufffd"):
            return kept
    return words
