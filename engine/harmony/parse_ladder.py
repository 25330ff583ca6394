"""The parse ladder: strict, lenient, tolerant, raw; every rung is judged by `well_formed`."""

from collections.abc import Sequence

from mh_batch.engine.parsing.judge import _channels, make_parse
from mh_batch.engine.parsing.well_formed import Section, analysis_not_ended, problems
from mh_batch.jobs.generation import Parse, Rung, StopReason

from . import strict_parser, tolerant_parser
from .special_tokens import spell, texts


def parse_harmony(tokens: Sequence[int], stop_reason: StopReason) -> Parse:
    """Read a Harmony completion, its stop token included, whatever the token ids are.

    The first rung that is well formed wins. Where none is, the answer is the tolerant reading
    (or the raw text, if there is no structure at all), under the name of the strictest rung
    that reads the same channels.
    """
    readings: list[tuple[Rung, tuple[Section, ...]]] = []
    for rung in (Rung.STRICT, Rung.LENIENT):
        sections = strict_parser.read(tokens, strict=rung is Rung.STRICT)
        if sections is not None:
            if not problems(sections, stop_reason):
                return make_parse(rung, sections, stop_reason)
            readings.append((rung, sections))
    last = _own_reading(tokens)
    best = _judged(*last, stop_reason)
    if not best.well_formed:
        for rung, sections in readings:
            if _channels(sections) == best.channels:
                return _judged(rung, sections, stop_reason)
    return best


def _judged(rung: Rung, sections: Sequence[Section], stop_reason: StopReason) -> Parse:
    """Return the judged parse of `sections`, which says so if a rescue can go on from them."""
    rescuable = analysis_not_ended(sections, stop_reason)
    return make_parse(rung, sections, stop_reason, ("analysis_not_ended",) if rescuable else ())


def _own_reading(tokens: Sequence[int]) -> tuple[Rung, tuple[Section, ...]]:
    """Return the tolerant reading, or the raw text as final where nothing has a header."""
    reading = tolerant_parser.read(tokens)
    if reading.has_header:
        return Rung.TOLERANT, reading.sections
    words = texts(tokens)
    if not words:
        return Rung.RAW, ()
    damage = tuple(dict.fromkeys(code for s in reading.sections for code in s.damage))
    closed_by = reading.sections[-1].closed_by if reading.sections else None
    text = Section("assistant", "final", None, None, spell(words), closed_by, damage)
    return Rung.RAW, (text,)
