"""The tolerant parser: reads any sequence of token ids as well as it can.

It mends a misspelt header, and such a message has no defects. Where a text has lost tokens or holds
some of a header, the message is marked with defects.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from mh_batch.engine.harmony.special_tokens import CHANNEL, is_text, is_utf8, spell, texts
from mh_batch.engine.parsing.message import CHANNELS, STOPS, ParsedMessage

from .header import MAX_JUNK, Header, interpret
from .segments import NAME_TOKENS, Piece, name_length, pieces

Kind: TypeAlias = Literal["control", "header", "content"]

# a recipient and a content type between a channel and the text
_RECIPIENT_TOKENS = 24

_ROLES = ("assistant", "user", "system", "developer", "tool")


class Reading(NamedTuple):
    """The messages in order, and in `kinds` what each token was taken for.

    `contents` are the ids of each message's text. `has_header` is false where nothing at all
    looks like Harmony.
    """

    messages: tuple[ParsedMessage, ...]
    contents: tuple[tuple[int, ...], ...]
    kinds: tuple[Kind, ...]
    has_header: bool


def read(tokens: Sequence[int]) -> Reading:
    """Read any tokens; every text token lands in the text of a message or in a header."""
    return _TolerantParser(tokens).read()


class _TolerantParser:
    """Parses one completion; `_kinds` says of every token what it was taken for."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._kinds: list[Kind] = ["content" if is_text(t) else "control" for t in tokens]
        self._messages: list[ParsedMessage] = []
        self._contents: list[tuple[int, ...]] = []
        self._bare: list[int] = []

    def read(self) -> Reading:
        for piece in pieces(self._tokens):
            if piece.marked:
                self._read_marked(piece)
            else:
                self._read_unmarked(piece)
        self._name_bare_texts()
        self._mark_leftovers()
        has_header = "header" in self._kinds or len(self._bare) < len(self._messages)
        messages, contents = tuple(self._messages), tuple(self._contents)
        return Reading(messages, contents, tuple(self._kinds), has_header)

    def _read_marked(self, piece: Piece) -> None:
        """Read a message whose text is marked: whatever the header holds, it ends there."""
        words = self._tokens[piece.begin : piece.text - 1]
        header = self._interpret(piece, words)
        defects = self._take_header(piece, header, words)
        if not piece.started:
            defects.append("no_start")
        if piece.cut:
            defects.append("control_in_content")
        if header.channel is None:
            defects.append("no_channel")
            self._bare.append(len(self._messages))
        self._add(header, piece, self._tokens[piece.text : piece.end], defects)

    def _read_unmarked(self, piece: Piece) -> None:
        """Read a message without MESSAGE token: its text starts somewhere behind the channel."""
        words = self._tokens[piece.begin : piece.end]
        marker = words.index(CHANNEL) if CHANNEL in words else len(words)
        name = name_length(words, marker + 1, CHANNELS)
        if not name:
            self._read_headless(piece, marker)
            return
        begin = _behind_recipient(words, marker + 1 + name)
        header = self._interpret(piece, words[:begin])
        defects = self._take_header(piece, header, words[:begin])
        if piece.closed_by is None and not texts(words[begin:]):
            return  # the stream ended in this header, or the model began it anew
        if header.channel != "analysis":
            defects.append("no_message_token")
        self._add(header, piece, words[begin:], defects)

    def _read_headless(self, piece: Piece, marker: int) -> None:
        """Read a piece without a channel: a header that was cut off, or nothing but text."""
        words = self._tokens[piece.begin : piece.end]
        begun = len(words) - marker - 1 if marker < len(words) else len(words)
        is_header = marker < len(words) or piece.has_role
        if is_header and begun < NAME_TOKENS and piece.closed_by is None and not piece.cut:
            self._mark_header(piece.begin, piece.end)
            return
        role = name_length(words, 0, _ROLES) if piece.has_role else 0
        self._mark_header(piece.begin, piece.begin + role)
        speaker = spell(words[:role]).strip() or "assistant"
        if texts(words[role:]) or piece.closed_by is not None:
            self._add_bare(piece, words[role:], ("no_header",), speaker)

    def _take_header(self, piece: Piece, header: Header, words: Sequence[int]) -> list[str]:
        """Take `words` for a header and return its defects; one full of text is a text as well."""
        if len(header.junk) > MAX_JUNK:
            self._add_bare(piece._replace(closed_by=None), texts(words), ("header_junk",))
        else:
            self._mark_header(piece.begin, piece.begin + len(words))
        return list(header.defects)

    def _interpret(self, piece: Piece, words: Sequence[int]) -> Header:
        return interpret(spell(words), role=None if piece.has_role else "assistant")

    def _add_bare(
        self, piece: Piece, words: Sequence[int], defects: tuple[str, ...], role: str = "assistant"
    ) -> None:
        """Add text that names no channel."""
        self._bare.append(len(self._messages))
        self._add(Header(role, None, None, None, "", ()), piece, words, defects)

    def _add(
        self, header: Header, piece: Piece, content: Sequence[int], defects: Sequence[str]
    ) -> None:
        """Add a message; control tokens in its content are defects, never text."""
        words = texts(content)
        found = list(defects)
        if len(words) != len(content):
            found.append("control_in_content")
        if piece.closed_by is not None and not is_utf8(words):
            found.append("invalid_utf8")
        message = ParsedMessage(
            role=header.role,
            channel=header.channel,
            recipient=header.recipient,
            content_type=header.content_type,
            text=spell(words),
            closed_by=piece.closed_by,
            defects=tuple(found),
        )
        self._messages.append(message)
        self._contents.append(tuple(words))

    def _name_bare_texts(self) -> None:
        """Give text without a channel the final channel, unless there is a final message."""
        channel = "analysis" if any(s.channel == "final" for s in self._messages) else "final"
        for index in self._bare:
            bare = self._messages[index]
            self._messages[index] = msgspec.structs.replace(bare, channel=channel)

    def _mark_leftovers(self) -> None:
        """Add a defect if a header behind the stop token was dropped for lack of a text."""
        if self._messages and self._messages[-1].closed_by in STOPS:
            last = self._messages[-1]
            if self._tokens[-1] != last.closed_by:
                defects = (*last.defects, "after_stop")
                self._messages[-1] = msgspec.structs.replace(last, defects=defects)

    def _mark_header(self, begin: int, end: int) -> None:
        for index in range(begin, end):
            if self._kinds[index] == "content":
                self._kinds[index] = "header"


def _behind_recipient(words: Sequence[int], begin: int) -> int:
    """Return where JSON arguments begin if a recipient stands before them, else `begin`."""
    for end in range(begin, min(begin + _RECIPIENT_TOKENS, len(words))):
        if spell(words[end : end + 2]).lstrip().startswith("{"):
            return end if "to=" in spell(words[begin:end]) else begin
    return begin
