"""The note beside the tests: the ratios of one run, which travel between machines."""

from .report import Figure, Report
from .table import number

HEAD = """# Bench

One run of `mh-batch bench`: medians of ratios between variants that took turns, round by round, in
one process; what a figure is over stands beside it. Speeds depend on the machine and are not noted
here, but for the loop detector's own cost; ratios hardly do. A ratio of seconds is good below 1,
one of speeds above it.

What this project holds itself to: decoding of a default job (`decode`, `larger`: greedy and at
temperature 1) at least 0.97 of a bare loop and 1.0 of mlx-lm; with a repetition penalty 0.9 of
without; at 16 windows 0.95 of the speed at one, and active memory that grows by less than 1 %; a
gap between jobs below 1 % of the time.

```console
$ make bench                                        # the demo model; writes this file
$ mh-batch bench --model FOLDER --json before.json  # any model; all figures
$ mh-batch bench --model FOLDER --compare before.json
$ mh-batch bench --model random                     # a larger gpt-oss with random weights
$ mh-batch bench --quick --only decode              # seconds, not minutes
$ pip install 'mh-batch[plot]' && mh-batch bench --plot bench.png
```
"""

_ABSOLUTE = frozenset({"%", "ns/token"})


def note(report: Report) -> str:
    """Return the note as Markdown; the same report gives the same text."""
    setup = report.setup
    versions = ", ".join(f"{name} {v}" for name, v in sorted(setup.versions.items()))
    sizes = "quick sizes" if setup.quick else "full sizes"
    lines = [
        HEAD,
        f"Model `{setup.model}` on {setup.device}, {setup.rounds} rounds, {sizes}; {versions}.",
        "",
        "| Scenario | Case | Ratio |",
        "|---|---|---|",
        *(f"| {f.scenario} | {_cell(f.case)} | {_cell(_ratio(f))} |" for f in _rows(report)),
        "",
    ]
    return "\n".join(lines)


def _rows(report: Report) -> list[Figure]:
    """Return ratios, shares, the cost of a single step, and what was not measured."""
    return [f for f in report.figures if f.ratios or f.unit in _ABSOLUTE or f.value is None]


def _ratio(figure: Figure) -> str:
    """Return a row's figure, and what to know about it."""
    shown = ", ".join(f"{value:.2f} {name}" for name, value in figure.ratios.items())
    if figure.value is None:
        return figure.note
    if not figure.ratios:
        shown = number(figure.value, figure.unit)
    return f"{shown} ({figure.note})" if figure.note else shown


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
