"""The judged parse of what a parser has read."""

from collections.abc import Sequence

from mh_batch.engine.parsing.well_formed import Section, problems
from mh_batch.jobs.generation import Channel, Parse, ParserTier, StopReason

PARSER_VERSION = 3
"""Goes up with every change that reads some completion differently; stored with each parse."""


def make_parse(
    tier: ParserTier,
    sections: Sequence[Section],
    stop_reason: StopReason,
    further: tuple[str, ...] = (),
) -> Parse:
    """Return the judged parse of `sections`; `further` problems are what only the caller sees."""
    found = problems(sections, stop_reason) + further
    return Parse(PARSER_VERSION, tier, not found, found, _channels(sections))


def _channels(sections: Sequence[Section]) -> tuple[Channel, ...]:
    """Return sections as channels; a message of somebody else goes under its role's name."""
    return tuple(
        Channel(
            channel=(section.channel or "") if section.role == "assistant" else section.role,
            text=section.text,
            recipient=section.recipient if section.role == "assistant" else None,
            content_type=section.content_type,
        )
        for section in sections
    )
