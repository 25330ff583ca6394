"""Find the worker of a database without touching its lock."""

from pathlib import Path

import psutil

from mh_batch.store.lock import beside, holder


def worker_pid(path: Path) -> int | None:
    """Return the pid of the worker that holds the lock of database `path`, `None` if none does.

    Trying the lock could block a worker that starts at that moment. The lock file names the last
    holder, and a holder has it open. Where the system does not show open files (a worker of another
    user), it is enough that the process is alive.
    """
    pid = holder(path)
    if pid is None:
        return None
    lock = beside(path, ".lock")
    try:
        opened = psutil.Process(pid).open_files()
    except psutil.AccessDenied:
        return pid
    except psutil.Error:
        return None
    return pid if any(Path(file.path) == lock for file in opened) else None
