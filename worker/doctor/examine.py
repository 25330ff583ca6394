"""All checks in order, and their findings as people and as programs read them."""

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from mh_batch.worker.text.console import console, plain
from mh_batch.worker.text.format import format_count

from .blas import blas
from .database import database
from .deaths import deaths
from .finding import Finding, Site, Verdict
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

STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILURE: "bold red"}


def examine(site: Site, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """Yield what each check finds, in order."""
    for check in checks:
        yield from check(site)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 3 if anything failed, as for any other fault of the environment, else 0."""
    return 3 if any(finding.verdict is Verdict.FAILURE for finding in findings) else 0


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line a finding with its cure below it, and how many are not well."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        told = plain(finding.text)
        if finding.cure:
            told.append(f"\n{finding.cure}", style="dim")
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(verdict, plain(finding.subject), told)
    out = console()
    out.print(table)
    out.print(plain(conclusion(findings)))


def conclusion(findings: Sequence[Finding]) -> str:
    """Return the last line: what there is to be done."""
    failures = sum(finding.verdict is Verdict.FAILURE for finding in findings)
    warnings = sum(finding.verdict is Verdict.WARNING for finding in findings)
    if not failures and not warnings:
        return "all is well"
    told = [(failures, "failure"), (warnings, "warning")]
    return ", ".join(format_count(number, noun) for number, noun in told if number)
