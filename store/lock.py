"""The lock that lets one worker, or one migration, at a database; the kernel frees it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mh_batch.jobs.errors import StoreUnusable, WorkerRunning

_held: set[Path] = set()


def real_path(path: Path) -> Path:
    """Return `path` with links resolved, so that every name of a database shares one lock."""
    return Path(os.path.realpath(path))


def beside(path: Path, suffix: str) -> Path:
    """Return the file that stands beside the real database under its name plus `suffix`."""
    real = real_path(path)
    return real.with_name(real.name + suffix)


def holder(path: Path) -> int | None:
    """Return the pid that the lock of database `path` was last taken by, `None` if unknown."""
    with suppress(OSError, ValueError):
        return int(beside(path, ".lock").read_text("ascii"))
    return None


def held_here(path: Path) -> bool:
    """Tell whether this process holds the lock of database `path`."""
    return beside(path, ".lock") in _held


@contextmanager
def worker_lock(path: Path) -> Iterator[None]:
    """Hold the lock of database `path` for the block; its file stays, and says who holds it.

    Raises `WorkerRunning` with the pid of the holder, `StoreUnusable` where the folder cannot
    hold a lock.
    """
    target = beside(path, ".lock")
    # without its soft fallback a dead holder can never block the next worker
    lock = FileLock(target, timeout=0, fallback_to_soft=False, on_acquired=_sign)
    try:
        lock.acquire()
    except Timeout:
        pid = holder(path)
        who = f"pid {pid}" if pid else "pid unknown"
        raise WorkerRunning(
            f"{path}: another worker ({who}) is at this database; wait for it or stop it"
        ) from None
    except OSError as error:
        raise StoreUnusable(f"{target}: cannot be locked: {error.strerror or error}") from error
    _held.add(target)
    try:
        yield
    finally:
        _held.discard(target)
        lock.release()


def _sign(descriptor: int) -> None:
    """Leave our pid in the lock file, for the message that a second worker gets."""
    mode = os.fstat(descriptor).st_mode
    if mode & 0o002:  # an empty umask would let everyone write here
        os.fchmod(descriptor, mode & 0o7775)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
