"""Charts as values: what to draw, whatever draws it."""

import msgspec


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
    """Curves over the same `x`; with `is_time` it is seconds since 1970."""

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
    """One bar; its `parts` are stacked."""

    label: str
    parts: tuple[float, ...]


class Bars(msgspec.Struct, frozen=True):
    """Stacked bars; `parts` names their parts, `nothing` is the text if there are none."""

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
