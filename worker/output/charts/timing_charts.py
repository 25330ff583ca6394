"""The charts of a timing report: speed, memory, refusals."""

import math

import msgspec

from mh_batch.store.reports.timings import TimeBin, TimingReport
from mh_batch.worker.text.format import GIB, MIB

from .axes import between
from .spec import Bar, Bars, Chart, Colour, Curve, Lines, Pause

_MEMORY = {
    "process": "process_memory_bytes",
    "model, active": "active_memory_bytes",
    "model, cache": "cache_memory_bytes",
    "model, peak": "peak_memory_bytes",
}
# it often covers another curve: dashed and drawn last, both are visible
_DASHED = "model, peak"
LEAST_IN_BAND = 5
"""The middle 80% of fewer attempts says nothing."""
LEAST_POINTS = 2
_OFF = "worker off"


def charts(report: TimingReport) -> tuple[Chart, ...]:
    """Return the four charts: speed by context, speed by time, memory by time, retry reasons."""
    return (_speed_by_context(report), _speed_by_time(report), _memory(report), _refused(report))


def worth_drawing(chart: Chart) -> bool:
    """Return whether a chart says more than a figure does: a curve has two points at least."""
    return bool(chart.bars) if isinstance(chart, Bars) else chart.points >= LEAST_POINTS


def _speed_by_context(report: TimingReport) -> Lines:
    bins = report.by_context
    banded = [b.attempts >= LEAST_IN_BAND for b in bins]
    some = any(banded)
    speed = Curve(
        "mean, and the middle 80%" if some else "mean",
        tuple(b.tokens_per_second for b in bins),
        tuple(b.slow_tenth if y else None for b, y in zip(bins, banded, strict=True)) * some,
        tuple(b.fast_tenth if y else None for b, y in zip(bins, banded, strict=True)) * some,
    )
    return Lines(
        "Decoding speed by context length",
        "positions in the cache at the end",
        "tokens per second",
        tuple((b.kv_from + b.kv_to + 1) / 2 for b in bins),
        (speed,),
    )


def _speed_by_time(report: TimingReport) -> Lines:
    spans = _spans(report)
    bins = [s.bin for s in spans]
    return Lines(
        "Speed over time",
        "time (UTC)",
        "tokens per second",
        tuple(s.middle for s in spans),
        (
            Curve("while decoding", tuple(b.tokens_per_second if b else None for b in bins)),
            Curve("all time counted", tuple(s.speed for s in spans)),
        ),
        is_time=True,
        pauses=_pauses(report),
        pause_label=_OFF,
    )


def _memory(report: TimingReport) -> Lines:
    spans = _spans(report)
    most = max((max(getattr(b, n) for n in _MEMORY.values()) for b in report.by_time), default=0)
    unit, name = (GIB, "GiB") if most >= GIB else (MIB, "MiB")
    curves = tuple(
        Curve(
            label,
            tuple(getattr(s.bin, column) / unit if s.bin else None for s in spans),
            dashed=label == _DASHED,
        )
        for label, column in _MEMORY.items()
    )
    return Lines(
        "Memory over time, highest in each step",
        "time (UTC)",
        name,
        tuple(s.middle for s in spans),
        curves,
        is_time=True,
        pauses=_pauses(report),
        pause_label=_OFF,
    )


def _refused(report: TimingReport) -> Bars:
    bars = tuple(
        Bar(
            r.reason,
            (
                r.next_accepted - r.next_rescued,
                r.next_rescued,
                r.attempts - r.next_accepted - r.gave_up,
                r.gave_up,
            ),
        )
        for r in report.refusals
    )
    return Bars(
        "What came after a refused attempt",
        "refused attempts",
        ("next one taken", "next one rescued", "next one not taken", "gave up"),
        (Colour.BLUE, Colour.VIOLET, Colour.GREY, Colour.RED),
        bars,
        "no attempt was refused",
    )


class _Span(msgspec.Struct, frozen=True):
    """A span of time and the attempts in it; `bin` is `None` while the model was idle.

    `tokens` were generated in it, and `off` seconds of it the worker was off.
    """

    began: float
    ended: float
    bin: TimeBin | None
    tokens: float = 0.0
    off: float = 0.0

    @property
    def middle(self) -> float:
        return (self.began + self.ended) / 2

    @property
    def speed(self) -> float | None:
        """Tokens in all the time that the worker was on; `None` if it was off."""
        on = self.ended - self.began - self.off
        if self.bin is None:
            return 0.0 if on > self.off else None
        # the clock may have been set back
        return self.tokens / max(on, 0.001)


def _pauses(report: TimingReport) -> tuple[Pause, ...]:
    return tuple(Pause(off.began, off.ended) for off in report.off)


def _spans(report: TimingReport) -> list[_Span]:
    """Return the time bins as spans in order, each with the seconds that the worker was off.

    An empty span in the middle of each pause breaks the curves there.
    """
    pauses = _pauses(report)
    side_by_side = (report.totals.parallel or 1) > 1
    whole = _even_spans(report) if side_by_side else _whole_spans(report)
    spans = [_without(span, pauses) for span in whole]
    breaks = [_Span(p.began, p.ended, None, off=p.ended - p.began) for p in pauses]
    return sorted([*spans, *breaks], key=lambda span: span.middle)


def _without(span: _Span, pauses: tuple[Pause, ...]) -> _Span:
    """Return a span without the pause at its end or its beginning, and with those inside counted.

    An empty one stays as it is, and counts them all.
    """
    began, ended = span.began, span.ended
    if span.bin is not None:
        ended = min((p.began for p in pauses if began < p.began < ended <= p.ended), default=ended)
        began = max((p.ended for p in pauses if p.began <= began < p.ended < ended), default=began)
    off = ended - began - _seconds_on(began, ended, pauses)
    return _Span(began, ended, span.bin, span.tokens, off)


def _seconds_on(began: float, ended: float, pauses: tuple[Pause, ...]) -> float:
    """Return how long the worker was on between two times; 0 if they are the wrong way round."""
    off = (max(0.0, min(ended, p.ended) - max(began, p.began)) for p in pauses)
    return max(0.0, ended - began - sum(off))


def _whole_spans(report: TimingReport) -> list[_Span]:
    """Return the time bins as spans without gaps or overlap.

    A bin counts the tokens of the attempts that ended in it. So its span begins where the first of
    these attempts did: otherwise long attempts would look like pauses and bursts.
    """
    width, bins, pauses = report.time_width, report.by_time, _pauses(report)
    spans: list[_Span] = []
    for number, this in enumerate(bins):
        began = min(this.at, this.began) if number else this.began
        later = bins[number + 1] if number + 1 < len(bins) else None
        if later is None:
            return [*spans, _Span(began, report.totals.ended, this, this.completion_tokens)]
        ended = min(this.at + width, later.began)
        spans.append(_Span(began, ended, this, this.completion_tokens))
        # whole bins without work; a bin that a long attempt covers is none
        spans += [
            _Span(at, at + width, None)
            for began, ended in between(this.at + width, min(later.at, later.began), pauses)
            for at in range(math.ceil(began), math.floor(ended) - width + 1, width)
        ]
    return spans


def _even_spans(report: TimingReport) -> list[_Span]:
    """Return the time bins as spans of one width, for attempts that ran side by side.

    Attempts that ended in a bin may have begun long before it, so its tokens count as spread from
    when the first of them began to the bin's end. Spans in which attempts only went on are left
    out: the curves go on to the next.
    """
    width, bins, pauses = report.time_width, report.by_time, _pauses(report)
    if not bins:
        return []
    first, last = min(b.began for b in bins), report.totals.ended
    at_work = [(b, b.began, min(b.at + width, last)) for b in bins]
    found = {b.at: b for b in bins}
    on = {
        at
        for low, high in between(first, last, pauses)
        for at in range(math.floor(low / width) * width, math.ceil(high), width)
    }
    spans = []
    for at in sorted(on | found.keys()):
        began, ended = max(at, first), min(at + width, last)
        tokens = sum(
            b.completion_tokens
            * _seconds_on(max(began, low), min(ended, high), pauses)
            / max(_seconds_on(low, high, pauses), 0.001)
            for b, low, high in at_work
        )
        if at in found or not tokens:
            spans.append(_Span(began, ended, found.get(at), tokens))
    return spans
