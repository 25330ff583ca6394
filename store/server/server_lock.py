"""One server at a time for a database, as one worker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mh_batch.jobs.errors import StoreUnusable, WorkerRunning
from mh_batch.store.lock import beside

SUFFIX = ".serve.lock"


@contextmanager
def server_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the server of database `path` for the block.

    Raises `WorkerRunning` if another server has it, `StoreUnusable` where the folder has no locks.
    """
    target = beside(path, SUFFIX)
    lock = FileLock(target, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise WorkerRunning(
            f"{path}: another `mh-batch serve` is at this database; stop it, or name another "
            "database with --db"
        ) from None
    except OSError as error:
        raise StoreUnusable(f"{target}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
