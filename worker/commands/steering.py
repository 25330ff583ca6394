"""`mh-batch cancel` and `mh-batch retry`: what they change, and what they say."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mh_batch.jobs.results.selection import names_in
from mh_batch.jobs.status import RETRYABLE, Status
from mh_batch.store.connection import writing
from mh_batch.store.lookup import find_target
from mh_batch.store.queue import cancel_retry

Say = Callable[[str], object]


def cancel(db: Path, refs: Sequence[str], say: Say) -> None:
    """Cancel the queued and running jobs of each batch or job named.

    Raises `UnknownTarget`, with nothing changed, if one of `refs` names none.
    """
    with writing(db) as store:
        for target in [find_target(store, ref) for ref in refs]:
            done = cancel_retry.cancel(store, target)
            parts = [f"{done.at_once} cancelled"] if done.at_once else []
            if done.asked:
                parts.append(f"{done.asked} being ended by the worker")
            say(f"{target.label}: {', '.join(parts) or 'nothing is queued or running'}")


def retry(db: Path, refs: Sequence[str], statuses: str | None, say: Say) -> None:
    """Queue the jobs of each batch or job named again that ended in one of `statuses`.

    `None` means all statuses that can be tried again. Raises `InputError` for any other, and
    `UnknownTarget`, with nothing changed, if one of `refs` names none.
    """
    named = names_in("--status", statuses, Status, RETRYABLE)
    wanted = RETRYABLE if named is None else named
    with writing(db) as store:
        for target in [find_target(store, ref) for ref in refs]:
            count = cancel_retry.retry(store, target, wanted)
            names = " or ".join(sorted(wanted))
            say(f"{target.label}: {f'{count} queued again' if count else f'nothing is {names}'}")
