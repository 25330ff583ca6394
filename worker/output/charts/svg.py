"""Charts as SVG for an HTML page: text stays text, colours come from the page's CSS."""

from collections.abc import Sequence
from html import escape

from .axes import Tick, XAxis, ticks
from .spec import Bars, Chart, Lines

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 46
LEAST_BAR_LEFT, MOST_BAR_LEFT = 60, 200
LEGEND_LINE = 16
BAND_WIDTH = 8
"""The width of a band over a single point."""
MOST_BAR_STEP = 46
MARKERS_UP_TO = 60
_LETTER = 6.3  # the average width of a letter, to place the entries of a legend

_Point = tuple[float, float]


def svg(chart: Chart) -> str:
    """Return one chart as an `<svg>` element that scales with its container.

    The page colours its parts by class (`c0` to `c3`, `band`, `grid`, `axis`).
    """
    entries = _entries(chart)
    legend, lines = _legend(entries)
    top = TOP + (lines - 1) * LEGEND_LINE
    if isinstance(chart, Lines):
        height, inside = HEIGHT, _lines(chart, top)
    else:
        height = min(HEIGHT, top + max(1, len(chart.bars)) * MOST_BAR_STEP + BOTTOM)
        inside = _bars(chart, top, height)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(chart.title)}">'
        f"{''.join([*legend, *inside])}</svg>"
    )


class _Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._factor, 1)


def _entries(chart: Chart) -> list[tuple[str, str]]:
    """Return the class and the name of each entry of the legend."""
    if isinstance(chart, Bars):
        return [(f"dot c{chart.colours[n]}", chart.parts[n]) for n in chart.occurring]
    curves = [(f"dot c{number}", curve.label) for number, curve in enumerate(chart.curves)]
    return [*curves, *([("off", chart.pause_label)] if chart.pauses else [])]


def _lines(chart: Lines, top: int) -> list[str]:
    axis = XAxis(chart)
    room = 0.02 * (axis.high - axis.low)
    highest = 1.08 * chart.highest or 1.0
    x = _Scale(axis.low - room, axis.high + room, LEFT, WIDTH - RIGHT)
    xs = [axis(value) for value in chart.x]
    y = _Scale(0, highest, HEIGHT - BOTTOM, top)
    parts = [
        _box("off", x(axis(pause.began)), top, x(axis(pause.ended)), HEIGHT - BOTTOM)
        for pause in chart.pauses
    ]
    for tick in ticks(0, highest):
        parts.append(_line("grid", LEFT, y(tick.at), WIDTH - RIGHT, y(tick.at)))
        parts.append(_text(LEFT - 7, y(tick.at) + 4, tick.label, "end"))
    parts.append(_line("axis", LEFT, y(0), WIDTH - RIGHT, y(0)))
    parts += _x_labels(axis.ticks, x, HEIGHT - BOTTOM)
    for number, curve in enumerate(chart.curves):
        if curve.low:
            parts += [
                _band(f"band c{number}", low, high)
                for low, high in zip(
                    _runs(xs, curve.low, x, y), _runs(xs, curve.high, x, y), strict=True
                )
            ]
        runs = _runs(xs, curve.y, x, y)
        dashes = ' stroke-dasharray="6 4"' if curve.dashed else ""
        parts += [_shape("polyline", f"line c{number}", run, dashes) for run in runs]
        if len(chart.x) <= MARKERS_UP_TO:
            parts += [
                f'<circle class="dot c{number}" cx="{a}" cy="{b}" r="2.6"/>'
                for run in runs
                for a, b in run
            ]
    return [*parts, *_labels(chart.x_label, chart.y_label, HEIGHT)]


def _bars(chart: Bars, upper: int, height: int) -> list[str]:
    if not chart.bars:
        return [_text(WIDTH / 2, height / 2, chart.nothing, "middle")]
    names = [bar.label.replace("_", " ") for bar in chart.bars]
    widest = 16 + max(map(len, names)) * _LETTER
    bar_left = round(min(max(widest, LEAST_BAR_LEFT), MOST_BAR_LEFT))
    x = _Scale(0, chart.longest, bar_left, WIDTH - 46)
    bottom = height - BOTTOM
    step = (bottom - upper) / len(chart.bars)
    x_ticks = ticks(0, chart.longest, whole=True)
    parts = [_line("grid", x(tick.at), upper, x(tick.at), bottom) for tick in x_ticks]
    parts += _x_labels(x_ticks, x, bottom)
    for number, bar in enumerate(chart.bars):
        top = upper + number * step
        middle = round(top + step / 2 + 4, 1)
        parts.append(_text(bar_left - 8, middle, names[number], "end"))
        begun = 0.0
        for part, length in enumerate(bar.parts):
            if length:
                kind = f"dot c{chart.colours[part]}"
                y1, y2 = round(top + 0.2 * step, 1), round(top + 0.8 * step, 1)
                parts.append(_box(kind, x(begun), y1, x(begun + length), y2))
            begun += length
        parts.append(_text(x(begun) + 6, middle, f"{begun:,.0f}", "start"))
    return [*parts, *_labels(chart.x_label, "", height)]


def _runs(
    xs: Sequence[float], ys: Sequence[float | None], x: _Scale, y: _Scale
) -> list[list[_Point]]:
    """Return the points in pixels, one list for each run without a gap."""
    runs: list[list[_Point]] = [[]]
    for a, b in zip(xs, ys, strict=True):
        if b is not None:
            runs[-1].append((x(a), y(b)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _band(kind: str, low: list[_Point], high: list[_Point]) -> str:
    if len(low) > 1:
        return _shape("polygon", kind, [*high, *reversed(low)])
    ((at, bottom),), ((_, top),) = low, high
    half = BAND_WIDTH / 2
    return _box(kind, round(at - half, 1), top, round(at + half, 1), bottom)


def _legend(entries: Sequence[tuple[str, str]]) -> tuple[list[str], int]:
    """Return the legend and the number of its lines; no entry goes beyond the edge."""
    parts = []
    at, line = 12.0, 0
    for kind, name in entries:
        width = 17 + len(name) * _LETTER
        if at > 12 and at + width > WIDTH - RIGHT:
            at, line = 12.0, line + 1
        y = 7 + line * LEGEND_LINE
        parts.append(_box(kind, round(at), y, round(at) + 12, y + 8))
        parts.append(_text(at + 17, y + 8, name, "start"))
        at += width + 14
    return parts, line + 1


def _x_labels(x_ticks: Sequence[Tick], x: _Scale, bottom: int) -> list[str]:
    return [
        _text(_inside(x(tick.at), text), bottom + 16 + 13 * line, text, "middle")
        for tick in x_ticks
        for line, text in enumerate(tick.label.splitlines())
    ]


def _inside(at: float, text: str) -> float:
    """Return where the middle of a text is, so that it ends within the chart."""
    half = len(text) * _LETTER / 2
    return max(half + 2, min(at, WIDTH - half - 2))


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


def _box(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    width, height = round(max(x2 - x1, 0), 1), round(max(y2 - y1, 0), 1)
    return f'<rect class="{kind}" x="{x1}" y="{y1}" width="{width}" height="{height}"/>'


def _shape(element: str, kind: str, points: Sequence[_Point], more: str = "") -> str:
    places = " ".join(f"{a},{b}" for a, b in points)
    return f'<{element} class="{kind}" points="{places}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
