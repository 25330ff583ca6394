"""Commands that change what is there: `cancel`, `retry`, `archive`, `delete` and `vacuum`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mh_batch.jobs.errors import InputError

from .options import DEFAULT_DB, Db, Targets
from .shared import say

if TYPE_CHECKING:
    from sqlite_utils import Database

    from mh_batch.store.lookup import BatchRow

Batches = Annotated[
    list[str], typer.Argument(metavar="BATCH...", help="Numbers or names of batches.")
]


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
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another setting for them, such as max_tokens=8192."
        ),
    ] = None,
) -> None:
    """Queue failed, incomplete or cancelled jobs again.

    All of a batch, or single jobs; their complete turns are kept.
    """
    from mh_batch.jobs.results.selection import names_in
    from mh_batch.jobs.status import RETRYABLE, Status
    from mh_batch.store.changes import retry_settings
    from mh_batch.store.connection import writing
    from mh_batch.store.lookup import find_target, find_targets
    from mh_batch.store.queue import cancel_retry
    from mh_batch.worker.config import assigned
    from mh_batch.worker.submission.output_check import CHECKS

    values = retry_settings.typed(assigned(assignments or ()), text=True)
    named = names_in("--status", statuses, Status, RETRYABLE)
    chosen = RETRYABLE if named is None else named
    names = " or ".join(sorted(chosen))
    with writing(db) as store:
        if values:
            found = find_targets(store, targets)
            counts = retry_settings.retry(store, found, chosen, values, CHECKS)
        else:
            found = [find_target(store, ref) for ref in targets]
            counts = [cancel_retry.retry(store, target, chosen) for target in found]
        for target, count in zip(found, counts, strict=True):
            changed = f" with {', '.join(assignments or ())}" if values else ""
            again = f"{count} queued again{changed}"
            say(f"{target.label}: {again if count else f'nothing is {names}'}")


def archive(
    refs: Batches,
    db: Db = DEFAULT_DB,
    undo: Annotated[bool, typer.Option("--undo", help="Put them back into the lists.")] = False,
) -> None:
    """Take finished batches out of the lists; nothing is deleted.

    A batch that is named by its number or name is found as before.
    """
    from mh_batch.store.changes.archive import archive, restore
    from mh_batch.store.connection import writing

    with writing(db) as store:
        batches = _found(store, refs)
        changed = (restore if undo else archive)(store, batches)
        for batch, new in zip(batches, changed, strict=True):
            if undo:
                state = "in the lists again" if new else "is not archived"
            else:
                state = "archived" if new else "is archived already"
            say(f"{_label(batch)}: {state}")


def delete(
    refs: Batches,
    db: Db = DEFAULT_DB,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete batches with answers, attempts and files; asks first.

    A worker may go on meanwhile with others.
    """
    from mh_batch.store.changes import removal
    from mh_batch.store.connection import writing
    from mh_batch.worker.output.deletion import artifacts, describe, free_note, remove

    with writing(db) as store:
        batches = _found(store, refs)
        for batch in batches:
            removal.check_deletable(store, batch)
        found = {batch.id: artifacts(db, batch.id) for batch in batches}
        for batch in batches:
            parts = describe(removal.extent(store, batch), found[batch.id])
            say(f"{_label(batch)}: {parts}")
        if not yes:
            _confirm()
        for batch in batches:
            removal.delete(store, batch)
            remove(found[batch.id])
            say(f"{_label(batch)}: deleted")
        if (note := free_note(removal.space(store))) is not None:
            say(note)


def vacuum(db: Db = DEFAULT_DB) -> None:
    """Give the space of deleted batches back to the disk.

    Writes the database anew, so for a moment it takes its size once more; not while a worker runs.
    """
    from mh_batch.store.changes import removal
    from mh_batch.store.connection import writing
    from mh_batch.worker.text.format import format_size

    with writing(db) as store:
        before = removal.space(store)
        removal.vacuum(store)
        after = removal.space(store)
    say(f"{db}: {format_size(before.size)} before, {format_size(after.size)} now")


def _found(store: "Database", refs: list[str]) -> list["BatchRow"]:
    """Return the batches that are named, each once; a mistyped one raises `UnknownTarget`."""
    from mh_batch.store.lookup import find_batch

    return list({batch.id: batch for batch in (find_batch(store, ref) for ref in refs)}.values())


def _label(batch: "BatchRow") -> str:
    return f"batch {batch.id} ({batch.name})"


def _confirm() -> None:
    """Ask on the terminal; raises `InputError` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise InputError("delete: nobody is there to ask; --yes deletes without asking")
    typer.confirm("Delete this for good?", abort=True, err=True)
