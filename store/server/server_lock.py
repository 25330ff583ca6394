"""One server at a time for a database, as one worker."""

from contextlib import AbstractContextManager
from pathlib import Path

from mh_batch.store.lock import beside, only_one

SUFFIX = ".serve.lock"


def server_lock(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of the server of database `path` for a block.

    Raises `WorkerRunning` if another server has it, `StoreUnusable` where the folder has no locks.
    """
    return only_one(
        beside(path, SUFFIX),
        lambda: (
            f"{path}: another `mh-batch serve` is at this database; stop it, or name another "
            "database with --db"
        ),
    )
