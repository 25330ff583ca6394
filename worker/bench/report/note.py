"""The ratios of one run as a Markdown note: they hardly depend on the machine."""

from .goals import held_to
from .report import Figure, Report
from .table import number

HEAD = """# Bench

One run of `mh-batch bench`. Ratios are between variants that took turns, round by round, each the
median of those of the rounds; `drain`, `queue` and `memory` are one run each. Speeds depend on the
machine and are not noted here, but for the loop detector's own cost; ratios hardly do. A ratio of
seconds is good below 1, one of speeds above it. Where a case says `at` a position, a prompt of
that length stands for what would have been generated before.

```console
$ make bench                                        # the demo model; writes this file
$ mh-batch bench --model FOLDER --json before.json  # any model, for the next line
$ mh-batch bench --model FOLDER --compare before.json
$ mh-batch bench --model random                     # a larger gpt-oss with random weights
$ mh-batch bench --quick --only decode              # seconds, not minutes
$ pip install 'mh-batch[plot]' && mh-batch bench --plot bench.png
```
"""

_ABSOLUTE = frozenset({"%", "ns/token", "ms/step"})


def note(report: Report) -> str:
    """Return the note as Markdown; the same report gives the same text."""
    setup = report.setup
    versions = ", ".join(f"{name} {v}" for name, v in sorted(setup.versions.items()))
    sizes = "quick sizes" if setup.quick else "full sizes"
    lines = [
        HEAD,
        f"Model `{setup.model}` on {setup.device}, {setup.rounds} rounds, {sizes}; {versions}.",
        "",
        "| Scenario | Case | Ratio | Held to |",
        "|---|---|---|---|",
        *(_row(f) for f in _rows(report)),
        "",
    ]
    return "\n".join(lines)


def _rows(report: Report) -> list[Figure]:
    """Return the ratios, shares and costs per token, and what was not measured."""
    return [f for f in report.figures if f.ratios or f.unit in _ABSOLUTE or f.value is None]


def _row(figure: Figure) -> str:
    cells = (figure.scenario, figure.case, _ratio(figure), held_to(figure))
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _ratio(figure: Figure) -> str:
    shown = ", ".join(f"{value:.2f} {name}" for name, value in figure.ratios.items())
    if figure.value is None:
        return figure.note
    if not figure.ratios:
        shown = number(figure.value, figure.unit)
    return f"{shown} ({figure.note})" if figure.note else shown


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
