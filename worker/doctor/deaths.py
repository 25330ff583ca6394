"""Deaths of the model process in the latest run, and why `work` lets a Mac's display sleep."""

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.store.connection import open_reader
from mh_batch.store.reports.progress import latest_stderr_tails
from mh_batch.worker.model_process.metal import WATCHDOG, metal_fault
from mh_batch.worker.text.format import format_count

from .finding import Finding, Site, ok, warning


def deaths(site: Site) -> Iterator[Finding]:
    """Check why the model process died in the latest run; on a Mac, explain the display's sleep."""
    tails: list[str] = []
    try:
        if site.db.exists():
            with closing(open_reader(site.db)) as db:
                tails = latest_stderr_tails(db)
    except (StoreUnusable, sqlite3.DatabaseError):
        # the database check reports it
        return
    yield from judge_deaths(tails)
    yield from judge_display(sys.platform)


def judge_deaths(tails: Sequence[str]) -> Iterator[Finding]:
    """Judge the last words of the processes that died."""
    if not tails:
        yield ok("deaths", "the model did not die in the latest run")
    for fault, number in Counter(map(metal_fault, tails)).items():
        died = f"the model died {format_count(number, 'time')} in the latest run"
        if fault is not None:
            yield warning("deaths", f"{died}: {fault.message}", fault.cure)
        else:
            yield warning("deaths", died, "`mh-batch query --recipe crashes` shows its last words")


def judge_display(system: str) -> Iterator[Finding]:
    """Explain on macOS why `work` keeps the machine awake but lets the display sleep."""
    if system == "darwin":
        yield ok(
            "display", f"work keeps this Mac awake and lets its display sleep: {WATCHDOG.message}"
        )
