"""The ticks and the range of an axis."""

import math
from datetime import UTC, datetime

import msgspec

from mh_batch.store.reports.timings import round_seconds

from .spec import Lines

DAY = 86_400
MAX_TICKS = 7
MAX_TIMES = 5


class Tick(msgspec.Struct, frozen=True):
    """A place on an axis with what is written there."""

    at: float
    label: str


def ticks(low: float, high: float, whole: bool = False) -> tuple[Tick, ...]:
    """Return round numbers within `low` to `high`, in few steps of 1, 2 or 5 x 10^n.

    `whole` keeps to whole numbers, for counts.
    """
    if not high > low:
        return (Tick(low, f"{low:,.4g}"),)
    rough = max((high - low) / MAX_TICKS, 1.0 if whole else 0.0)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(k * scale for k in (1, 2, 5, 10) if k * scale >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(Tick(n * step, f"{n * step:,.{digits}f}") for n in range(first, last + 1))


def time_ticks(low: float, high: float) -> tuple[Tick, ...]:
    """Return round times (UTC) within `low` to `high`, with the date where the day changes."""
    step = round_seconds(max(1.0, (high - low) / MAX_TIMES))
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
    """Return the ends of the x axis, with room around a single point."""
    low, high = min(chart.x, default=0.0), max(chart.x, default=1.0)
    if high > low:
        return low, high
    room = 30.0 if chart.is_time else max(1.0, low / 2)
    return low - room, high + room
