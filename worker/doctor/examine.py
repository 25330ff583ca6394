"""All checks in order, and how their findings are printed."""

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from mh_batch.worker.text.console import console, plain
from mh_batch.worker.text.format import format_count

from .blas import blas
from .database import database
from .deaths import deaths
from .finding import Finding, Severity, Site
from .machine import device, space, versions
from .model import model, vocabulary
from .queued import queued_models
from .template import template

Check = Callable[[Site], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    versions,
    device,
    blas,
    vocabulary,
    model,
    template,
    database,
    deaths,
    queued_models,
    space,
)

STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAILURE: "bold red"}


def examine(site: Site, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """Yield what each check finds, in order."""
    for check in checks:
        yield from check(site)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 3, the code of an environment fault, if anything failed, else 0."""
    return 3 if any(finding.verdict is Severity.FAILURE for finding in findings) else 0


def print_findings(findings: Sequence[Finding]) -> None:
    """Print one line per finding with its cure below, and the number of failures and warnings."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        text = plain(finding.text)
        if finding.cure:
            text.append(f"\n{finding.cure}", style="dim")
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(verdict, plain(finding.subject), text)
    out = console()
    out.print(table)
    out.print(plain(conclusion(findings)))


def conclusion(findings: Sequence[Finding]) -> str:
    """Return the last line: the number of failures and warnings."""
    failures = sum(finding.verdict is Severity.FAILURE for finding in findings)
    warnings = sum(finding.verdict is Severity.WARNING for finding in findings)
    if not failures and not warnings:
        return "all is well"
    counts = [(failures, "failure"), (warnings, "warning")]
    return ", ".join(format_count(number, noun) for number, noun in counts if number)
