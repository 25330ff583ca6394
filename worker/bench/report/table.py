"""A report as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mh_batch.worker.text.console import plain

from .compare import USAGE_FIELDS, FigureChange
from .report import Figure, ProfileLine, Report, Usage

NOT_AVAILABLE = "n/a"


def number(value: float | None, unit: str) -> str:
    """Return a value with its significant digits, `n/a` for `None`."""
    if value is None:
        return NOT_AVAILABLE
    if unit == "bytes":
        return f"{value / (1 << 20):,.0f} MiB"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:z,.{digits}f} {unit}"


def ratios(figure: Figure) -> str:
    """Return a figure's ratios to its references, such as `0.98 of mlx-lm`."""
    return ", ".join(f"{value:.2f} {name}" for name, value in figure.ratios.items())


def line(figure: Figure) -> str:
    """Return a figure as one line of progress."""
    parts = [number(figure.value, figure.unit), ratios(figure), _remark(figure)]
    return f"{figure.case}: {'; '.join(part for part in parts if part)}"


def signed(percent: float | None) -> str:
    """Return a change with its sign, `n/a` for `None`."""
    return NOT_AVAILABLE if percent is None else f"{percent:+.1f}%"


def print_report(report: Report, console: Console) -> None:
    """Print figures, usage and profile."""
    console.print(_figures(report.figures))
    console.print(_usage(report.usage))
    if report.profile:
        console.print(_profile(report.profile))


def print_changes(
    changes: Sequence[FigureChange], remarks: Sequence[str], console: Console
) -> None:
    """Print the changes since an earlier run, and why the two may not compare."""
    table = _table("Change", "scenario", "case")
    for name in ("before", "now", "change"):
        table.add_column(name, justify="right")
    for change in changes:
        _add(
            table,
            change.scenario,
            change.case,
            number(change.before, change.unit),
            number(change.now, change.unit),
            signed(change.percent),
        )
    console.print(table)
    for remark in remarks:
        console.print(plain(f"not alike: {remark}"))


def _remark(figure: Figure) -> str:
    """Return a figure's note without the `n/a` that its value shows."""
    return figure.note.removeprefix(f"{NOT_AVAILABLE}: ")


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _add(table: Table, *cells: str) -> None:
    """Add a row, with control characters escaped: an earlier report may hold any."""
    table.add_row(*(plain(cell) for cell in cells))


def _figures(figures: Sequence[Figure]) -> Table:
    table = _table("Figures (medians)", "scenario", "case")
    for name in ("value", "ratio", "n"):
        table.add_column(name, justify="right")
    table.add_column("note")
    previous = ""
    for figure in figures:
        if previous and figure.scenario != previous:
            table.add_section()
        previous = figure.scenario
        _add(
            table,
            figure.scenario,
            figure.case,
            number(figure.value, figure.unit),
            ratios(figure),
            f"{figure.n}" if figure.n else "",
            _remark(figure),
        )
    return table


def _usage(usages: Sequence[Usage]) -> Table:
    table = _table("The machine meanwhile", "scenario")
    for name in ("wall", *(case for case, *_ in USAGE_FIELDS)):
        table.add_column(name, justify="right")
    for usage in usages:
        cells = [number(getattr(usage, field), unit) for _, unit, field in USAGE_FIELDS]
        _add(table, usage.scenario, number(usage.seconds, "s"), *cells)
    return table


def _profile(lines: Sequence[ProfileLine]) -> Table:
    table = _table("Profile of one generation", "function")
    for name in ("calls", "own", "with callees"):
        table.add_column(name, justify="right")
    for line in lines:
        _add(
            table,
            line.function,
            f"{line.calls:,}",
            f"{1000 * line.own_seconds:.1f} ms",
            f"{1000 * line.total_seconds:.1f} ms",
        )
    return table
