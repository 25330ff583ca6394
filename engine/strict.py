"""openai-harmony's own parser as a reader, in its strict and its lenient mode."""

from collections.abc import Sequence
from typing import NamedTuple

from openai_harmony import HarmonyError, Message, Role, TextContent

from .control import CLOSERS, MESSAGE, START, is_text, is_utf8
from .vocabulary import harmony_encoding
from .well_formed import Section

_JSON_TYPE = "<|constrain|>"


class Extent(NamedTuple):
    """Where one message's text lies in the token ids, and the token that closed it."""

    has_message_token: bool
    start: int
    end: int
    closed_by: int | None


def extents(tokens: Sequence[int], *, strict: bool) -> list[Extent]:
    """Return where openai-harmony sees messages: in strict mode only MESSAGE ends a header."""
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


def read(tokens: Sequence[int], *, strict: bool) -> tuple[Section, ...] | None:
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
        _section(message, place, tokens) for message, place in zip(messages, places, strict=True)
    )


def _section(message: Message, place: Extent, tokens: Sequence[int]) -> Section:
    content = tokens[place.start : place.end]
    damage: list[str] = []
    if not place.has_message_token:
        # in an analysis a header word more or less does no harm to the data
        if message.channel != "analysis":
            damage.append("no_message_token")
    elif not all(map(is_text, content)):
        damage.append("control_in_content")
    elif place.closed_by is not None and not is_utf8(content):
        damage.append("invalid_utf8")
    kind = message.content_type
    return Section(
        role=message.author.role.value,
        channel=message.channel,
        recipient=message.recipient,
        content_type=kind.removeprefix(_JSON_TYPE).strip() if kind else None,
        text="".join(part.text for part in message.content if isinstance(part, TextContent)),
        closed_by=place.closed_by,
        damage=tuple(damage),
    )
