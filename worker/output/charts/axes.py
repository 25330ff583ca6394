"""The ticks and the range of an axis."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from mh_batch.store.reports.timings import round_seconds

from .spec import Lines, Pause

DAY = 86_400
MAX_TICKS = 7
MAX_TIMES = 5
LEAST_APART = 0.1
"""The least distance of two ticks, as a part of the axis."""
MOST_OF_A_PAUSE, MOST_OF_PAUSES = 0.08, 0.4
"""The longest that a pause is drawn, and all of them, as a part of the rest of the axis."""


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


def time_ticks(low: float, high: float, pauses: Sequence[Pause] = ()) -> tuple[Tick, ...]:
    """Return round times (UTC) within `low` to `high`, with the date where the day changes.

    There is none within the `pauses`, which are in order; a part between two of them that has no
    round time has its beginning.
    """
    parts = between(low, high, pauses)
    step = round_seconds(max(1.0, sum(ended - began for began, ended in parts) / MAX_TIMES))
    times: list[float] = []
    for began, ended in parts:
        round_ones = range(math.ceil(began / step), math.floor(ended / step) + 1)
        times += [n * step for n in round_ones] or ([began] if pauses else [])
    found = []
    day = None
    for time in times:
        at = datetime.fromtimestamp(time, UTC)
        clock = f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
        new_day = high - low >= DAY / 2 and at.date() != day
        day = at.date()
        label = f"{at:%d %b}" if step >= DAY else f"{clock}\n{at:%d %b}" if new_day else clock
        found.append(Tick(time, label))
    return tuple(found)


class XAxis:
    """The x axis of a chart: where each value lies, the ends, and the ticks.

    A long pause is drawn as a short one, so that what is beside it can be seen.
    """

    def __init__(self, chart: Lines) -> None:
        low, high = x_range(chart)
        on = sum(ended - began for began, ended in between(low, high, chart.pauses))
        self._pauses = chart.pauses
        self._most = on * min(MOST_OF_A_PAUSE, MOST_OF_PAUSES / max(1, len(chart.pauses)))
        self.low, self.high = self(low), self(high)
        found = time_ticks(low, high, chart.pauses) if chart.is_time else ticks(low, high)
        self.ticks = self._apart([Tick(self(tick.at), tick.label) for tick in found])

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        saved = 0.0
        for pause in self._pauses:
            length = pause.ended - pause.began
            if length > self._most:
                inside = min(max(value - pause.began, 0.0), length)
                saved += inside * (1 - self._most / length)
        return value - saved

    def _apart(self, found: Sequence[Tick]) -> list[Tick]:
        """Return the ticks without those whose labels would touch the one before."""
        kept: list[Tick] = []
        for tick in found:
            if not kept or tick.at - kept[-1].at >= LEAST_APART * (self.high - self.low):
                kept.append(tick)
        return kept


def between(low: float, high: float, pauses: Sequence[Pause]) -> list[tuple[float, float]]:
    """Return the parts of `low` to `high` outside of the pauses, which are in order."""
    within = [pause for pause in pauses if low < pause.ended and pause.began < high]
    edges = [low, *(edge for pause in within for edge in (pause.began, pause.ended)), high]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(began, ended) for began, ended in pairs if began <= ended]


def x_range(chart: Lines) -> tuple[float, float]:
    """Return the ends of the x axis, with room around a single point."""
    low, high = min(chart.x, default=0.0), max(chart.x, default=1.0)
    if high > low:
        return low, high
    room = 30.0 if chart.is_time else max(1.0, low / 2)
    return low - room, high + room
