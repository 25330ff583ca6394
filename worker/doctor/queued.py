"""The models of queued jobs: the jobs of a model that cannot be loaded stay queued."""

import sqlite3
from collections.abc import Iterator

from mh_batch.engine.model.adapter_folder import find_adapter
from mh_batch.engine.model.folder import find_here
from mh_batch.jobs.errors import ModelNotLoaded, StoreUnusable
from mh_batch.store import counts
from mh_batch.worker.output.interruption import reading_from
from mh_batch.worker.text.format import format_count

from .finding import Finding, Site, failure, ok, refused, warning

MOST_MODELS = 20


def queued_models(site: Site) -> Iterator[Finding]:
    """Check for each model of queued jobs whether it is on this machine."""
    waiting: list[tuple[str | None, int]] = []
    try:
        if site.db.exists():
            with reading_from(site.db) as db:
                waiting = counts.queued_models(db, MOST_MODELS)
    except (StoreUnusable, sqlite3.DatabaseError):
        # the database check reports it
        return
    if not waiting:
        yield ok("queue", "no job is queued")
    for name, jobs in waiting:
        model = name or site.model
        if model is not None:
            yield _judge(model, f"{format_count(jobs, 'queued job')} of {model}")
        else:
            cure = "name one: `mh-batch work --model MODEL`"
            yield warning("queue", f"{format_count(jobs, 'queued job')} with no model", cure)


def _judge(model: str, jobs: str) -> Finding:
    try:
        find_adapter(model)
        if find_here(model) is not None:
            return ok("queue", jobs)
    except ModelNotLoaded as error:
        found = refused("queue", error, "name another model")
        return failure("queue", f"{jobs}: {found.text}", found.cure or "")
    cure = "`mh-batch work` downloads it; start it while you can watch"
    return warning("queue", f"{jobs}, which is not on this machine", cure)
