"""The database: does it open, is it sound, who is at it."""

from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.store.connection import require_store
from mh_batch.store.inspection import Condition, find_damage
from mh_batch.store.lock import beside
from mh_batch.store.queue import counts
from mh_batch.worker.output.interruption import reading_from
from mh_batch.worker.progress.worker_pid import worker_at
from mh_batch.worker.text.format import GIB, MIB, count, size

from .finding import Finding, Site, failure, ok, refused, warning

LARGE = GIB
"""From this size on the indexes are not compared with their tables: that takes minutes."""

LONG_LOG = 512 * MIB

_RESTORE = "restore a copy, or save what is readable with `sqlite3 FILE .recover`"


def database(site: Site) -> Iterator[Finding]:
    """Say whether the database can be used, and whether it is sound."""
    if not site.db.exists():
        yield ok("database", f"none at {site.db} yet; `mh-batch submit FILE` makes it")
        return
    try:
        if require_store(site.db) is Condition.OLDER:
            cure = "nothing: the next `mh-batch submit` or `mh-batch work` brings it up to date"
            yield warning("database", f"{site.db} is of an older version", cure)
            return
        with reading_from(site.db) as db:
            yield from _soundness(site, db)
            yield from _state(site.db, db)
    except StoreUnusable as error:
        yield refused("database", error, "name another file with --db")


def _soundness(site: Site, db: Database) -> Iterator[Finding]:
    bytes_held = site.db.stat().st_size
    thorough = bytes_held < LARGE
    damage = find_damage(db.conn, thorough=thorough)
    text = f"{site.db}, {size(bytes_held)}"
    if damage is not None:
        yield failure("database", f"{text}: {damage}", _RESTORE)
    else:
        check = "integrity_check" if thorough else "quick_check"
        yield ok("database", f"{text}, sound ({check}, foreign_key_check)")


def _state(path: Path, db: Database) -> Iterator[Finding]:
    """Say who is at the database and what was left half done."""
    log = beside(path, "-wal")
    held = log.stat().st_size if log.exists() else 0
    if held > LONG_LOG:
        cure = "close programs that keep reading it (a notebook, datasette) for a moment"
        yield warning("log", f"{size(held)} of write-ahead log wait to be taken over", cure)
    worker = worker_at(path)
    running = counts.running_count(db)
    if worker is not None:
        yield ok("worker", f"running, pid {worker}")
    elif running:
        cure = "nothing: the next `mh-batch work` goes on with them"
        yield warning("worker", f"none, and {count(running, 'job')} it left running", cure)
    else:
        yield ok("worker", "none is running")
    if loading := counts.loading_count(db):
        cure = "nothing, if a submit is running; else the next `mh-batch work` clears it away"
        yield warning("submit", f"{count(loading, 'batch', 'batches')} not whole yet", cure)
