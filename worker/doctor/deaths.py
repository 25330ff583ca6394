"""How the model process died in the latest run, and what keeps macOS from ending its GPU work."""

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.store.connection import open_reader
from mh_batch.worker.model_process.metal import WATCHDOG, metal_fault
from mh_batch.worker.text.format import count

from .finding import Finding, Site, ok, warning

_TAILS = """
SELECT stderr_tail FROM crashes
WHERE run_id = (SELECT max(id) FROM runs)
ORDER BY id DESC
LIMIT 1000
"""


def deaths(site: Site) -> Iterator[Finding]:
    """Say of what the model process died in the latest run, and on a Mac why its display sleeps."""
    tails: list[str] = []
    try:
        if site.db.exists():
            with closing(open_reader(site.db)) as db:
                tails = [row[0] for row in db.execute(_TAILS)]
    except (StoreUnusable, sqlite3.DatabaseError):
        # the check of the database tells
        return
    yield from judge_deaths(tails)
    yield from judge_display(sys.platform)


def judge_deaths(tails: Sequence[str]) -> Iterator[Finding]:
    """Yield what the last words of processes that died mean together."""
    if not tails:
        yield ok("deaths", "the model did not die in the latest run")
    for fault, number in Counter(map(metal_fault, tails)).items():
        died = f"the model died {count(number, 'time')} in the latest run"
        if fault is not None:
            yield warning("deaths", f"{died}: {fault.message}", fault.cure)
        else:
            yield warning("deaths", died, "`mh-batch query --recipe crashes` shows its last words")


def judge_display(system: str) -> Iterator[Finding]:
    """Yield on macOS why `work` lets the display sleep while it keeps the machine awake."""
    if system == "darwin":
        yield ok(
            "display", f"work keeps this Mac awake and lets its display sleep: {WATCHDOG.message}"
        )
