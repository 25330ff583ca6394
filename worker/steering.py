"""`mh-batch cancel` and `mh-batch retry`: what they change, and what they say."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.status import RETRYABLE, Status
from mh_batch.store import requests
from mh_batch.store.connection import open_store, require_store

Say = Callable[[str], object]


def cancel(db: Path, refs: Sequence[str], say: Say) -> None:
    """Cancel the queued and running jobs of each batch or job named.

    Raises `UnknownTarget`, with nothing changed, if one of `refs` names none.
    """
    require_store(db)
    store = open_store(db)
    try:
        for target in [requests.find_target(store, ref) for ref in refs]:
            done = requests.cancel(store, target)
            parts = [f"{done.at_once} cancelled"] if done.at_once else []
            if done.asked:
                parts.append(f"{done.asked} being ended by the worker")
            say(f"{target.label}: {', '.join(parts) or 'nothing is queued or running'}")
    finally:
        store.close()


def retry(db: Path, refs: Sequence[str], statuses: str | None, say: Say) -> None:
    """Queue the jobs of each batch or job named again that ended in one of `statuses`.

    `None` means all statuses that can be tried again. Raises `InputError` for any other, and
    `UnknownTarget`, with nothing changed, if one of `refs` names none.
    """
    wanted = _retryable(statuses)
    require_store(db)
    store = open_store(db)
    try:
        for target in [requests.find_target(store, ref) for ref in refs]:
            count = requests.retry(store, target, wanted)
            names = " or ".join(sorted(wanted))
            say(f"{target.label}: {f'{count} queued again' if count else f'nothing is {names}'}")
    finally:
        store.close()


def _retryable(statuses: str | None) -> Collection[Status]:
    if statuses is None:
        return RETRYABLE
    names = [name.strip() for name in statuses.split(",")]
    for name in names:
        if name not in set(RETRYABLE):
            raise InputError(f"--status {name}: there are {', '.join(sorted(RETRYABLE))}")
    return frozenset(Status(name) for name in names)
