"""The charts of a timing report: speed, memory, refusals."""

import msgspec

from mh_batch.store.reports.timings import TimeBin, TimingReport
from mh_batch.worker.text.format import GIB, MIB

from .spec import Bar, Bars, Chart, Curve, Lines

_MEMORY = {
    "process": "process_memory_bytes",
    "model, active": "active_memory_bytes",
    "model, cache": "cache_memory_bytes",
    "model, peak": "peak_memory_bytes",
}
# it often covers another curve: dashed and drawn last, both are visible
_DASHED = "model, peak"


def charts(report: TimingReport) -> tuple[Chart, ...]:
    """Return the four charts: speed by context, speed by time, memory by time, retry reasons."""
    return (_speed_by_context(report), _speed_by_time(report), _memory(report), _refused(report))


def _speed_by_context(report: TimingReport) -> Lines:
    bins = report.by_context
    speed = Curve(
        "mean, and the middle 80%",
        tuple(b.tokens_per_second for b in bins),
        tuple(b.slow_tenth for b in bins),
        tuple(b.fast_tenth for b in bins),
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
        "Why attempts were refused",
        "attempts",
        ("next one taken", "next one rescued", "next one not taken", "gave up"),
        bars,
        "no attempt was refused",
    )


class _Span(msgspec.Struct, frozen=True):
    """A span of time and the attempts in it; `bin` is `None` while the model was idle."""

    began: float
    ended: float
    bin: TimeBin | None

    @property
    def middle(self) -> float:
        return (self.began + self.ended) / 2

    @property
    def speed(self) -> float:
        tokens = self.bin.completion_tokens if self.bin else 0
        # the clock may have been set back
        return tokens / max(self.ended - self.began, 0.001)


def _spans(report: TimingReport) -> list[_Span]:
    """Return the time bins as spans without gaps or overlap.

    A bin counts the tokens of the attempts that ended in it. So its span begins where the first of
    these attempts did: otherwise long attempts would look like pauses and bursts.
    """
    width, bins = report.time_width, report.by_time
    spans: list[_Span] = []
    for number, this in enumerate(bins):
        began = min(this.at, this.began) if number else this.began
        later = bins[number + 1] if number + 1 < len(bins) else None
        if later is None:
            return [*spans, _Span(began, report.totals.ended, this)]
        ended = min(this.at + width, later.began)
        spans.append(_Span(began, ended, this))
        # whole bins without work; a bin that a long attempt covers is none
        idle = range(this.at + width, min(later.at, int(later.began)), width)
        spans += [_Span(at, at + width, None) for at in idle if at + width <= later.began]
    return spans
