"""`mh-batch cancel` and `mh-batch retry`: take jobs out of the queue and put them back."""

from typing import Annotated

import typer

from .options import DEFAULT_DB, Db, Targets
from .shared import say


def cancel(targets: Targets, db: Db = DEFAULT_DB) -> None:
    """Cancel queued jobs and stop running ones; turns are kept.

    All of a batch, or single jobs.
    """
    from mh_batch.store.connection import writing
    from mh_batch.store.lookup import find_target
    from mh_batch.store.queue import cancel_retry

    with writing(db) as store:
        # all are looked up first, so that a mistyped one changes nothing
        for target in [find_target(store, ref) for ref in targets]:
            done = cancel_retry.cancel(store, target)
            parts = [f"{done.at_once} cancelled"] if done.at_once else []
            if done.asked:
                parts.append(f"{done.asked} being stopped by the worker")
            say(f"{target.label}: {', '.join(parts) or 'nothing is queued or running'}")


def retry(
    targets: Targets,
    db: Db = DEFAULT_DB,
    statuses: Annotated[
        str | None,
        typer.Option(
            "--status", help="Only jobs with these statuses: failed,incomplete,cancelled."
        ),
    ] = None,
) -> None:
    """Queue failed, incomplete or cancelled jobs again.

    All of a batch, or single jobs; their complete turns are kept.
    """
    from mh_batch.jobs.results.selection import names_in
    from mh_batch.jobs.status import RETRYABLE, Status
    from mh_batch.store.connection import writing
    from mh_batch.store.lookup import find_target
    from mh_batch.store.queue import cancel_retry

    named = names_in("--status", statuses, Status, RETRYABLE)
    chosen = RETRYABLE if named is None else named
    names = " or ".join(sorted(chosen))
    with writing(db) as store:
        for target in [find_target(store, ref) for ref in targets]:
            count = cancel_retry.retry(store, target, chosen)
            say(f"{target.label}: {f'{count} queued again' if count else f'nothing is {names}'}")
