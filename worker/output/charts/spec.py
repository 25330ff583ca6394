"""Charts as values: what to draw, whatever draws it."""

from enum import IntEnum

import msgspec


class Colour(IntEnum):
    """A place in the palette; the first four are for curves, by their number."""

    BLUE = 0
    ORANGE = 1
    GREEN = 2
    VIOLET = 3
    GREY = 4
    RED = 5


class Pause(msgspec.Struct, frozen=True):
    """A part of the x axis where nothing could happen."""

    began: float
    ended: float


class Curve(msgspec.Struct, frozen=True):
    """One line; `None` in `y` breaks it. `low` and `high` are a band around it, or empty.

    A `dashed` line leaves one below it visible.
    """

    label: str
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dashed: bool = False


class Lines(msgspec.Struct, frozen=True):
    """Curves over the same `x`; with `is_time` it is seconds since 1970.

    `pauses` are shaded, and `pause_label` says what they are.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    curves: tuple[Curve, ...]
    is_time: bool = False
    pauses: tuple[Pause, ...] = ()
    pause_label: str = ""

    @property
    def points(self) -> int:
        """How many places of the x axis have a value."""
        values = zip(*(curve.y for curve in self.curves), strict=True)
        return sum(any(v is not None for v in at) for at in values)

    @property
    def highest(self) -> float:
        """The highest value of any curve or band, 0 without one."""
        return max(
            (v for c in self.curves for values in (c.y, c.high) for v in values if v), default=0.0
        )


class Bar(msgspec.Struct, frozen=True):
    """One bar; its `parts` are stacked."""

    label: str
    parts: tuple[float, ...]


class Bars(msgspec.Struct, frozen=True):
    """Stacked bars; `parts` names their parts, `nothing` is the text if there are none.

    `colours` has one colour for each part.
    """

    title: str
    x_label: str
    parts: tuple[str, ...]
    colours: tuple[Colour, ...]
    bars: tuple[Bar, ...]
    nothing: str

    @property
    def longest(self) -> float:
        """The length of the longest bar, 0 without one."""
        return max((sum(bar.parts) for bar in self.bars), default=0.0)

    @property
    def occurring(self) -> tuple[int, ...]:
        """The numbers of the parts that some bar has, all of them without bars."""
        return tuple(
            n for n in range(len(self.parts)) if not self.bars or any(b.parts[n] for b in self.bars)
        )


Chart = Lines | Bars
