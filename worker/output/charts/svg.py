"""Charts as SVG for an HTML page: text stays text, colours come from the page's CSS."""

from collections.abc import Sequence
from html import escape

from .axes import Tick, ticks, time_ticks, x_range
from .spec import Bars, Chart, Lines

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 46
BAR_LEFT = 100
MOST_BAR_STEP = 46
MARKERS_UP_TO = 60
_LETTER = 6.1  # the average width of a letter, to place the entries of a legend


def svg(chart: Chart) -> str:
    """Return one chart as an `<svg>` element that scales with its container.

    The page colours its parts by class (`c0` to `c3`, `band`, `grid`, `axis`).
    """
    if isinstance(chart, Lines):
        height, inside = HEIGHT, _lines(chart)
    else:
        height = min(HEIGHT, TOP + max(1, len(chart.bars)) * MOST_BAR_STEP + BOTTOM)
        inside = _bars(chart, height)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(chart.title)}">'
        f"{''.join(inside)}</svg>"
    )


class _Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._factor, 1)


def _lines(chart: Lines) -> list[str]:
    left, right = x_range(chart)
    room = 0.02 * (right - left)
    top = 1.08 * chart.highest or 1.0
    x = _Scale(left - room, right + room, LEFT, WIDTH - RIGHT)
    y = _Scale(0, top, HEIGHT - BOTTOM, TOP)
    x_ticks = time_ticks(left, right) if chart.is_time else ticks(left, right)
    parts = _legend([curve.label for curve in chart.curves])
    for tick in ticks(0, top):
        parts.append(_line("grid", LEFT, y(tick.at), WIDTH - RIGHT, y(tick.at)))
        parts.append(_text(LEFT - 7, y(tick.at) + 4, tick.label, "end"))
    parts.append(_line("axis", LEFT, y(0), WIDTH - RIGHT, y(0)))
    parts += _x_labels(x_ticks, x, HEIGHT - BOTTOM)
    for number, curve in enumerate(chart.curves):
        if curve.low:
            parts += [
                _shape("polygon", f"band c{number}", [*high, *reversed(low)])
                for low, high in zip(
                    _runs(chart.x, curve.low, x, y), _runs(chart.x, curve.high, x, y), strict=True
                )
            ]
        runs = _runs(chart.x, curve.y, x, y)
        dashes = ' stroke-dasharray="6 4"' if curve.dashed else ""
        parts += [_shape("polyline", f"line c{number}", run, dashes) for run in runs]
        if len(chart.x) <= MARKERS_UP_TO:
            parts += [
                f'<circle class="dot c{number}" cx="{a}" cy="{b}" r="2.6"/>'
                for run in runs
                for a, b in run
            ]
    return [*parts, *_labels(chart.x_label, chart.y_label, HEIGHT)]


def _bars(chart: Bars, height: int) -> list[str]:
    if not chart.bars:
        return [_text(WIDTH / 2, height / 2, chart.nothing, "middle")]
    x = _Scale(0, chart.longest, BAR_LEFT, WIDTH - 46)
    bottom = height - BOTTOM
    step = (bottom - TOP) / len(chart.bars)
    parts = _legend(chart.parts)
    x_ticks = ticks(0, chart.longest, whole=True)
    parts += [_line("grid", x(tick.at), TOP, x(tick.at), bottom) for tick in x_ticks]
    parts += _x_labels(x_ticks, x, bottom)
    for number, bar in enumerate(chart.bars):
        top = TOP + number * step
        middle = round(top + step / 2 + 4, 1)
        parts.append(_text(BAR_LEFT - 8, middle, bar.label.replace("_", " "), "end"))
        begun = 0.0
        for part, length in enumerate(bar.parts):
            width = round(x(begun + length) - x(begun), 1)
            parts.append(
                f'<rect class="dot c{part}" x="{x(begun)}" y="{round(top + 0.2 * step, 1)}" '
                f'width="{width}" height="{round(0.6 * step, 1)}"/>'
            )
            begun += length
        parts.append(_text(x(begun) + 6, middle, f"{begun:,.0f}", "start"))
    return [*parts, *_labels(chart.x_label, "", height)]


def _runs(
    xs: Sequence[float], ys: Sequence[float | None], x: _Scale, y: _Scale
) -> list[list[tuple[float, float]]]:
    """Return the points in pixels, one list for each run without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(xs, ys, strict=True):
        if b is not None:
            runs[-1].append((x(a), y(b)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    at = 12.0
    for number, name in enumerate(names):
        parts.append(f'<rect class="dot c{number}" x="{at:.0f}" y="7" width="12" height="8"/>')
        parts.append(_text(at + 17, 15, name, "start"))
        at += 17 + 14 + len(name) * _LETTER
    return parts


def _x_labels(x_ticks: Sequence[Tick], x: _Scale, bottom: int) -> list[str]:
    return [
        _text(x(tick.at), bottom + 16 + 13 * line, text, "middle")
        for tick in x_ticks
        for line, text in enumerate(tick.label.splitlines())
    ]


def _labels(x_label: str, y_label: str, height: int) -> list[str]:
    parts = [_text((LEFT + WIDTH) / 2, height - 6, x_label, "middle")]
    if y_label:
        middle = (TOP + height - BOTTOM) / 2
        turned = f'transform="rotate(-90 13 {middle:.0f})"'
        parts.append(
            f'<text x="13" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>'
        )
    return parts


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _shape(element: str, kind: str, points: Sequence[tuple[float, float]], more: str = "") -> str:
    places = " ".join(f"{a},{b}" for a, b in points)
    return f'<{element} class="{kind}" points="{places}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
