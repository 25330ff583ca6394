"""The parser tiers: strict, lenient, tolerant, raw. `well_formed` judges the result of each."""

from collections.abc import Sequence

from mh_batch.engine.parsing.judge import channels, make_parse
from mh_batch.engine.parsing.message import ParsedMessage
from mh_batch.engine.parsing.well_formed import analysis_not_ended, find_problems
from mh_batch.jobs.generation import Parse, ParserTier, StopReason

from . import strict_parser
from .special_tokens import spell, texts
from .tolerant import parser as tolerant_parser


def parse_harmony(tokens: Sequence[int], stop_reason: StopReason) -> Parse:
    """Read a Harmony completion, its stop token included, whatever the token ids are.

    The first tier with a well-formed result wins. If there is none, the result is that of the
    tolerant parser (or the raw text, if there is no structure at all), under the name of the
    strictest tier that reads the same channels.
    """
    readings: list[tuple[ParserTier, tuple[ParsedMessage, ...]]] = []
    for tier in (ParserTier.STRICT, ParserTier.LENIENT):
        messages = strict_parser.read(tokens, strict=tier is ParserTier.STRICT)
        if messages is not None:
            if not find_problems(messages, stop_reason):
                return make_parse(tier, messages, stop_reason)
            readings.append((tier, messages))
    last = _tolerant_reading(tokens)
    best = _judged(*last, stop_reason)
    if not best.well_formed:
        for tier, messages in readings:
            if channels(messages) == best.channels:
                return _judged(tier, messages, stop_reason)
    return best


def _judged(tier: ParserTier, messages: Sequence[ParsedMessage], stop_reason: StopReason) -> Parse:
    """Return the judged parse of `messages`, marked if a final answer can be forced from them."""
    unended = analysis_not_ended(messages, stop_reason)
    return make_parse(tier, messages, stop_reason, ("analysis_not_ended",) if unended else ())


def _tolerant_reading(tokens: Sequence[int]) -> tuple[ParserTier, tuple[ParsedMessage, ...]]:
    """Return the tolerant reading, or the raw text as final where nothing has a header."""
    reading = tolerant_parser.read(tokens)
    if reading.has_header:
        return ParserTier.TOLERANT, reading.messages
    words = texts(tokens)
    if not words:
        return ParserTier.RAW, ()
    defects = tuple(dict.fromkeys(code for s in reading.messages for code in s.defects))
    closed_by = reading.messages[-1].closed_by if reading.messages else None
    text = ParsedMessage("assistant", "final", None, None, spell(words), closed_by, defects)
    return ParserTier.RAW, (text,)
