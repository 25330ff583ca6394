"""Whether a worker is at a database, told without touching the lock."""

from pathlib import Path

import psutil

from mh_batch.store.lock import beside, holder


def worker_pid(path: Path) -> int | None:
    """Return the pid of the worker that holds the lock of database `path`, `None` if none does.

    Trying the lock would refuse a worker that starts in that moment. Its file names who took it
    last, and a holder has the file open. Where the system does not show that (a worker of another
    user), a process that is alive counts.
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
