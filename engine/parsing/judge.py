"""The parse of a completion: messages from a parser, judged and as channels."""

from collections.abc import Sequence

from mh_batch.jobs.generation import Channel, Parse, ParserTier, StopReason

from .message import ParsedMessage
from .well_formed import find_problems

PARSER_VERSION = 4
"""Goes up with every change that reads some completion differently; stored with each parse."""


def make_parse(
    tier: ParserTier,
    messages: Sequence[ParsedMessage],
    stop_reason: StopReason,
    further: tuple[str, ...] = (),
) -> Parse:
    """Return the judged parse of `messages`; only the caller can see the `further` problems."""
    found = find_problems(messages, stop_reason) + further
    return Parse(PARSER_VERSION, tier, not found, found, channels(messages))


def channels(messages: Sequence[ParsedMessage]) -> tuple[Channel, ...]:
    """Return messages as channels; a message of another role goes under that role's name."""
    return tuple(
        Channel(
            channel=(message.channel or "") if message.role == "assistant" else message.role,
            text=message.text,
            recipient=message.recipient if message.role == "assistant" else None,
            content_type=message.content_type,
        )
        for message in messages
    )
