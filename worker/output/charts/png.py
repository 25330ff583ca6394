"""Charts as PNG by matplotlib, an extra that is imported only when something is drawn."""

import importlib
import io
from collections.abc import Sequence
from typing import Any

from mh_batch.jobs.errors import InputError

from .axes import Tick, XAxis, ticks
from .spec import Bars, Chart, Lines

DPI = 120
PANEL_INCHES = (6.6, 4.0)
INK = "#30343b"
GRID = "#e3e6ea"
# a palette for the colour-blind (Okabe and Ito)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a929c", "#b3261e")
SHADE = "#e6e9ed"
MARKERS_UP_TO = 60


def require_matplotlib() -> None:
    """Raise `InputError` in one line if matplotlib is not installed."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise InputError("--plot needs matplotlib: pip install 'mh-batch[plot]'") from None


def new_figure(width: float, height: float, title: str) -> Any:
    """Return an empty matplotlib figure; `width` and `height` are in inches."""
    # not pyplot, which looks for a screen
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(title)
    return figure


def png(figure: Any) -> bytes:
    """Return a figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def draw_charts(charts: Sequence[Chart], title: str) -> bytes:
    """Return the charts as one PNG, two in a row."""
    rows = (len(charts) + 1) // 2
    width, height = PANEL_INCHES
    figure = new_figure(2 * width, rows * height + 0.4, title)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    for axis, chart in zip(figure.subplots(rows, 2, squeeze=False).flat, charts, strict=False):
        _dress(axis, chart.title)
        if isinstance(chart, Lines):
            _lines(axis, chart)
        else:
            _bars(axis, chart)
    return png(figure)


def _dress(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#9aa0a8")
    axis.tick_params(colors=INK, labelsize=9)
    axis.set_axisbelow(True)


def _lines(axis: Any, chart: Lines) -> None:
    nan = float("nan")
    marker = "o" if len(chart.x) <= MARKERS_UP_TO else None
    across = XAxis(chart)
    x = [across(value) for value in chart.x]
    for number, pause in enumerate(chart.pauses):
        label = None if number else chart.pause_label
        axis.axvspan(
            across(pause.began), across(pause.ended), color=SHADE, linewidth=0, label=label
        )
    for curve, colour in zip(chart.curves, COLOURS, strict=False):
        y = [nan if v is None else v for v in curve.y]
        axis.plot(
            x,
            y,
            color=colour,
            label=curve.label,
            marker=marker,
            markersize=3.5,
            linewidth=1.8,
            linestyle="--" if curve.dashed else "-",
        )
        if curve.low:
            low, high = ([nan if v is None else v for v in b] for b in (curve.low, curve.high))
            axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel(chart.x_label, color=INK)
    axis.set_ylabel(chart.y_label, color=INK)
    room = 0.03 * (across.high - across.low)
    axis.set_xlim(across.low - room, across.high + room)
    # room above the curves for the legend
    top = 1.3 * chart.highest or 1.0
    axis.set_ylim(0, top)
    _set_ticks(axis.set_xticks, across.ticks)
    _set_ticks(axis.set_yticks, ticks(0, top))
    axis.grid(axis="y", color=GRID)
    axis.legend(loc="upper left", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)


def _bars(axis: Any, chart: Bars) -> None:
    if not chart.bars:
        axis.set_axis_off()
        axis.text(0.5, 0.5, chart.nothing, ha="center", va="center", color=INK)
        return
    labels = [bar.label.replace("_", " ") for bar in chart.bars]
    starts = [0.0] * len(labels)
    for part in chart.occurring:
        lengths = [bar.parts[part] for bar in chart.bars]
        colour, name = COLOURS[chart.colours[part]], chart.parts[part]
        axis.barh(labels, lengths, left=starts, color=colour, label=name, height=0.55)
        starts = [a + b for a, b in zip(starts, lengths, strict=True)]
    for place, total in enumerate(starts):
        axis.annotate(f" {total:,.0f}", (total, place), va="center", fontsize=9, color=INK)
    # a single bar must not fill the panel; the legend needs room below the last
    axis.set_ylim(max(3.0, len(labels)) + 0.6, -0.6)
    axis.set_xlim(0, 1.12 * chart.longest)
    _set_ticks(axis.set_xticks, ticks(0, chart.longest, whole=True))
    axis.set_xlabel(chart.x_label, color=INK)
    axis.grid(axis="x", color=GRID)
    axis.legend(loc="lower right", fontsize=8.5, frameon=False, labelcolor=INK)


def _set_ticks(setter: Any, ticks: Sequence[Tick]) -> None:
    setter([tick.at for tick in ticks], [tick.label for tick in ticks])
