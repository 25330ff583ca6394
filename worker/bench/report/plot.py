"""A report as PNG: a panel for each kind of curve, and one for the ratios."""

from typing import Any

from mh_batch.worker.output.charts.png import new_figure, png

from .report import Report, Series

PANEL_INCHES = (7.0, 4.0)


def panels(series: tuple[Series, ...]) -> dict[tuple[str, str], list[Series]]:
    """Return the curves by panel: one panel for each scenario and meaning of y."""
    grouped: dict[tuple[str, str], list[Series]] = {}
    for curve in series:
        grouped.setdefault((curve.scenario, curve.y_label), []).append(curve)
    return grouped


def bars(report: Report) -> list[tuple[str, float]]:
    """Return every ratio with its label, in the order of the table."""
    return [
        (f"{f.scenario}: {f.case} {name}", value)
        for f in report.figures
        for name, value in f.ratios.items()
    ]


def draw(report: Report) -> bytes:
    """Return the report as PNG."""
    curves, ratios = panels(report.series), bars(report)
    count = len(curves) + (1 if ratios else 0)
    heights = [1.0] * len(curves) + ([max(1.0, len(ratios) / 14)] if ratios else [])
    width, height = PANEL_INCHES
    title = f"mh-batch bench: {report.setup.model} on {report.setup.device}"
    figure = new_figure(width, height * max(1.0, sum(heights)), title)
    axes = figure.subplots(max(1, count), squeeze=False, height_ratios=heights or [1.0])[:, 0]
    for axis, ((scenario, y_label), group) in zip(axes, curves.items(), strict=False):
        _curves(axis, scenario, y_label, group)
    if ratios:
        _bars(axes[-1], ratios)
    return png(figure)


def _curves(axis: Any, scenario: str, y_label: str, group: list[Series]) -> None:
    for curve in group:
        axis.plot(curve.x, curve.y, marker="o", markersize=3, label=curve.case)
    axis.set(title=scenario, xlabel=group[0].x_label, ylabel=y_label)
    highest = max((value for curve in group for value in curve.y), default=0.0)
    axis.set_ylim(0, 1.15 * highest or 1.0)
    axis.legend()


def _bars(axis: Any, ratios: list[tuple[str, float]]) -> None:
    labels = [label for label, _ in ratios]
    axis.barh(labels, [value for _, value in ratios])
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=6)
    axis.set(title="ratios to the references")
