"""The pictures of a night as values: what is drawn, by whichever means."""

import math
from datetime import UTC, datetime

import msgspec

from mh_batch.store.reports.timings import TimeBin, TimingReport, round_seconds
from mh_batch.worker.text.format import GIB, MIB

DAY = 86_400
MOST_TICKS = 7
MOST_TIMES = 5
_MEMORY = {
    "process": "process_memory_bytes",
    "model, active": "active_memory_bytes",
    "model, cache": "cache_memory_bytes",
    "model, peak": "peak_memory_bytes",
}
# it often lies on another curve: dashed and drawn last, both are seen
_DASHED = "model, peak"


class Curve(msgspec.Struct, frozen=True):
    """One line; `None` in `y` breaks it. `low` and `high` are a band around it, or empty.

    One that is `dashed` lets another below it be seen.
    """

    label: str
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dashed: bool = False


class Lines(msgspec.Struct, frozen=True):
    """Curves over the same `x`; `is_time` where that is seconds since 1970."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    curves: tuple[Curve, ...]
    is_time: bool = False

    @property
    def highest(self) -> float:
        """The highest value of any curve or band, 0 without one."""
        return max(
            (v for c in self.curves for values in (c.y, c.high) for v in values if v), default=0.0
        )


class Bar(msgspec.Struct, frozen=True):
    """One bar; its `parts` lie one after the other."""

    label: str
    parts: tuple[float, ...]


class Bars(msgspec.Struct, frozen=True):
    """Bars of parts that `parts` names; `nothing` is said where there are none."""

    title: str
    x_label: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]
    nothing: str

    @property
    def longest(self) -> float:
        """The length of the longest bar, 0 without one."""
        return max((sum(bar.parts) for bar in self.bars), default=0.0)


Chart = Lines | Bars


class Tick(msgspec.Struct, frozen=True):
    """A place on an axis with what is written there."""

    at: float
    label: str


def charts(report: TimingReport) -> tuple[Chart, ...]:
    """Return the four pictures: speed by context, speed by time, memory by time, retry reasons."""
    return (
        _speed_by_context(report),
        _speed_by_time(report),
        _memory(report),
        _refusals(report),
    )


def ticks(low: float, high: float, whole: bool = False) -> tuple[Tick, ...]:
    """Return round numbers within `low` to `high`, in few steps of 1, 2 or 5 x 10^n.

    `whole` keeps to whole numbers, for what is counted.
    """
    if not high > low:
        return (Tick(low, f"{low:,.4g}"),)
    rough = max((high - low) / MOST_TICKS, 1.0 if whole else 0.0)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(k * scale for k in (1, 2, 5, 10) if k * scale >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(Tick(n * step, f"{n * step:,.{digits}f}") for n in range(first, last + 1))


def time_ticks(low: float, high: float) -> tuple[Tick, ...]:
    """Return round times (UTC) within `low` to `high`; the day where it changes."""
    step = round_seconds(max(1.0, (high - low) / MOST_TIMES))
    first = math.ceil(low / step)
    found = []
    day = None
    for n in range(first, math.floor(high / step) + 1):
        at = datetime.fromtimestamp(n * step, UTC)
        clock = f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
        new_day = high - low >= DAY / 2 and at.date() != day
        day = at.date()
        label = f"{at:%d %b}" if step >= DAY else f"{clock}\n{at:%d %b}" if new_day else clock
        found.append(Tick(n * step, label))
    return tuple(found)


def x_range(chart: Lines) -> tuple[float, float]:
    """Return the ends of the x axis, with room beside a single point."""
    low, high = min(chart.x, default=0.0), max(chart.x, default=1.0)
    if high > low:
        return low, high
    room = 30.0 if chart.is_time else max(1.0, low / 2)
    return low - room, high + room


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
    stretches = _stretches(report)
    bins = [s.bin for s in stretches]
    return Lines(
        "Speed over the night",
        "time (UTC)",
        "tokens per second",
        tuple(s.middle for s in stretches),
        (
            Curve("while decoding", tuple(b.tokens_per_second if b else None for b in bins)),
            Curve("all time counted", tuple(s.speed for s in stretches)),
        ),
        is_time=True,
    )


def _memory(report: TimingReport) -> Lines:
    stretches = _stretches(report)
    most = max((max(getattr(b, n) for n in _MEMORY.values()) for b in report.by_time), default=0)
    unit, name = (GIB, "GiB") if most >= GIB else (MIB, "MiB")
    curves = tuple(
        Curve(
            label,
            tuple(getattr(s.bin, column) / unit if s.bin else None for s in stretches),
            dashed=label == _DASHED,
        )
        for label, column in _MEMORY.items()
    )
    return Lines(
        "Memory over the night, highest in each step",
        "time (UTC)",
        name,
        tuple(s.middle for s in stretches),
        curves,
        is_time=True,
    )


def _refusals(report: TimingReport) -> Bars:
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


class _Stretch(msgspec.Struct, frozen=True):
    """A stretch of time and the attempts that filled it; `None` where the model had no work."""

    began: float
    ended: float
    bin: TimeBin | None

    @property
    def middle(self) -> float:
        return (self.began + self.ended) / 2

    @property
    def speed(self) -> float:
        tokens = self.bin.completion_tokens if self.bin else 0
        # a clock that was set back must not divide by nothing
        return tokens / max(self.ended - self.began, 0.001)


def _stretches(report: TimingReport) -> list[_Stretch]:
    """Return the night without holes or overlap.

    Tokens are counted in the bin in which their attempt ended, so its stretch begins where its
    first attempt did: else long attempts would look like pauses and bursts.
    """
    width, bins = report.time_width, report.by_time
    found: list[_Stretch] = []
    for number, this in enumerate(bins):
        began = min(this.at, this.began) if number else this.began
        later = bins[number + 1] if number + 1 < len(bins) else None
        if later is None:
            return [*found, _Stretch(began, report.totals.ended, this)]
        ended = min(this.at + width, later.began)
        found.append(_Stretch(began, ended, this))
        # whole bins without any work; a long attempt that covers them is no pause
        idle = range(this.at + width, min(later.at, int(later.began)), width)
        found += [_Stretch(at, at + width, None) for at in idle if at + width <= later.began]
    return found
