"""The parser tiers: strict, lenient, tolerant, raw. `well_formed` judges the result of each."""

from collections.abc import Sequence

from mh_batch.engine.parsing.judge import _channels, make_parse
from mh_batch.engine.parsing.well_formed import Section, analysis_not_ended, problems
from mh_batch.jobs.generation import Parse, ParserTier, StopReason

from . import strict_parser, tolerant_parser
from .special_tokens import spell, texts


def parse_harmony(tokens: Sequence[int], stop_reason: StopReason) -> Parse:
    """Read a Harmony completion, its stop token included, whatever the token ids are.

    The first tier with a well-formed result wins. If there is none, the result is that of the
    tolerant parser (or the raw text, if there is no structure at all), under the name of the
    strictest tier that reads the same channels.
    """
    readings: list[tuple[ParserTier, tuple[Section, ...]]] = []
    for tier in (ParserTier.STRICT, ParserTier.LENIENT):
        sections = strict_parser.read(tokens, strict=tier is ParserTier.STRICT)
        if sections is not None:
            if not problems(sections, stop_reason):
                return make_parse(tier, sections, stop_reason)
            readings.append((tier, sections))
    last = _own_reading(tokens)
    best = _judged(*last, stop_reason)
    if not best.well_formed:
        for tier, sections in readings:
            if _channels(sections) == best.channels:
                return _judged(tier, sections, stop_reason)
    return best


def _judged(tier: ParserTier, sections: Sequence[Section], stop_reason: StopReason) -> Parse:
    """Return the judged parse of `sections`, marked if a final answer can be forced from them."""
    unended = analysis_not_ended(sections, stop_reason)
    return make_parse(tier, sections, stop_reason, ("analysis_not_ended",) if unended else ())


def _own_reading(tokens: Sequence[int]) -> tuple[ParserTier, tuple[Section, ...]]:
    """Return the tolerant reading, or the raw text as final where nothing has a header."""
    reading = tolerant_parser.read(tokens)
    if reading.has_header:
        return ParserTier.TOLERANT, reading.sections
    words = texts(tokens)
    if not words:
        return ParserTier.RAW, ()
    damage = tuple(dict.fromkeys(code for s in reading.sections for code in s.damage))
    closed_by = reading.sections[-1].closed_by if reading.sections else None
    text = Section("assistant", "final", None, None, spell(words), closed_by, damage)
    return ParserTier.RAW, (text,)
