"""The database: whether it opens, is intact, and has a worker."""

from collections.abc import Iterator
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.store import counts
from mh_batch.store.changes import removal
from mh_batch.store.connection import require_store
from mh_batch.store.inspection import Condition, find_damage
from mh_batch.store.lock import beside
from mh_batch.worker.output.deletion import WORTH_VACUUM
from mh_batch.worker.output.interruption import reading_from
from mh_batch.worker.runtime.worker_pid import worker_pid
from mh_batch.worker.text.format import GIB, MIB, format_count, format_size

from .finding import Finding, Site, failure, ok, refused, warning

LARGE = GIB
"""From this size on, indexes are not compared with their tables, which takes minutes."""

LONG_LOG = 512 * MIB

_RESTORE = "restore a backup, or save what is readable with `sqlite3 FILE .recover`"


def database(site: Site) -> Iterator[Finding]:
    """Check that the database can be used and is intact."""
    if not site.db.exists():
        yield ok("database", f"none at {site.db} yet; `mh-batch submit FILE` creates it")
        return
    try:
        if require_store(site.db) is Condition.OLDER:
            cure = "nothing: the next `mh-batch submit` or `mh-batch work` brings it up to date"
            yield warning("database", f"{site.db} was made by an older version", cure)
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
    text = f"{site.db}, {format_size(bytes_held)}"
    if damage is not None:
        yield failure("database", f"{text}: {damage}", _RESTORE)
    else:
        check = "integrity_check" if thorough else "quick_check"
        yield ok("database", f"{text}, sound ({check}, foreign_key_check)")


def _state(path: Path, db: Database) -> Iterator[Finding]:
    """Check for a running worker and for unfinished work."""
    log = beside(path, "-wal")
    held = log.stat().st_size if log.exists() else 0
    if held > LONG_LOG:
        cure = "for a moment, close the programs that keep reading it (a notebook, datasette)"
        yield warning(
            "log", f"{format_size(held)} of write-ahead log are not yet in the database", cure
        )
    worker = worker_pid(path)
    running = counts.running_count(db)
    if worker is not None:
        yield ok("worker", f"running, pid {worker}")
    elif running:
        cure = "nothing: the next `mh-batch work` continues them"
        yield warning(
            "worker",
            f"none is running, but {format_count(running, 'job')} still marked as running",
            cure,
        )
    else:
        yield ok("worker", "none is running")
    free = removal.space(db)
    if free.free >= WORTH_VACUUM and free.free * 4 >= free.size:
        text = f"{format_size(free.free)} of {format_size(free.size)} are free"
        yield warning("space", text, "nothing, later jobs fill them; or `mh-batch vacuum`")
    if loading := counts.loading_count(db):
        cure = "nothing, if a submit or delete is running; else the next `mh-batch work` removes it"
        yield warning(
            "submit", f"{format_count(loading, 'batch', 'batches')} not complete yet", cure
        )
