"""openai-harmony's own parser, in its strict and its lenient mode."""

from collections.abc import Sequence
from typing import NamedTuple

from openai_harmony import HarmonyError, Message, Role, TextContent

from mh_batch.engine.parsing.message import CLOSERS, ParsedMessage

from .special_tokens import CHANNEL, MESSAGE, START, is_text, is_utf8, spell
from .vocabulary import harmony_encoding

_JSON_TYPE = "<|constrain|>"


class Extent(NamedTuple):
    """Where one message's text lies in the token ids, and the token that closed it."""

    has_message_token: bool
    start: int
    end: int
    closed_by: int | None


def extents(tokens: Sequence[int], *, strict: bool) -> list[Extent]:
    """Return the extents of openai-harmony's messages; if strict, only MESSAGE ends a header."""
    found: list[Extent] = []
    position = 0
    while position < len(tokens):
        if found and tokens[position] == START:
            position += 1
        start = position
        while start < len(tokens) and tokens[start] != MESSAGE:
            if not strict and tokens[start] in CLOSERS:
                break
            start += 1
        marked = start < len(tokens) and tokens[start] == MESSAGE
        # without the token the text is somewhere in the header
        start = start + 1 if marked else position
        end = start
        while end < len(tokens) and tokens[end] not in CLOSERS:
            end += 1
        found.append(Extent(marked, start, end, tokens[end] if end < len(tokens) else None))
        position = end + 1
    return found


def read(tokens: Sequence[int], *, strict: bool) -> tuple[ParsedMessage, ...] | None:
    """Return what openai-harmony reads, or `None` if it refuses the tokens."""
    try:
        messages = harmony_encoding().parse_messages_from_completion_tokens(
            tokens, Role.ASSISTANT, strict=strict
        )
    except (HarmonyError, OverflowError):  # the second: an id that is no 32-bit number
        return None
    places = extents(tokens, strict=strict)
    if len(places) != len(messages):
        return None
    return tuple(
        _parsed(message, place, tokens) for message, place in zip(messages, places, strict=True)
    )


def _parsed(message: Message, place: Extent, tokens: Sequence[int]) -> ParsedMessage:
    content = tokens[place.start : place.end]
    text = "".join(part.text for part in message.content if isinstance(part, TextContent))
    if place.has_message_token:
        defects = _text_defects(content, closed=place.closed_by is not None)
    else:
        defects = _header_defects(message.channel, text, content)
    kind = message.content_type
    return ParsedMessage(
        role=message.author.role.value,
        channel=message.channel,
        recipient=message.recipient,
        content_type=kind.removeprefix(_JSON_TYPE).strip() if kind else None,
        text=text,
        closed_by=place.closed_by,
        defects=defects,
    )


def _text_defects(content: Sequence[int], *, closed: bool) -> tuple[str, ...]:
    """Return what is wrong with the ids of a text; one that was cut may end inside a character."""
    if not all(map(is_text, content)):
        return ("control_in_content",)
    return ("invalid_utf8",) if closed and not is_utf8(content) else ()


def _header_defects(channel: str | None, text: str, header: Sequence[int]) -> tuple[str, ...]:
    """Return what is wrong with a `text` that openai-harmony found in a header without MESSAGE.

    It spells all but the first CHANNEL into the text, joins the words by single spaces, and finds
    the channel by how the header looks. So the ids behind that token have to spell the text.
    """
    controls = [token for token in header if not is_text(token)]
    if controls not in ([], [CHANNEL]):
        return ("control_in_content",)
    # in an analysis a header word more or less does no harm to the data
    if not controls or channel != "analysis":
        return ("no_message_token",)
    behind = spell(header[header.index(CHANNEL) + 1 :])
    return () if text in behind else ("no_message_token",)
