"""The locks beside a database, one for its worker or migration, one for those who submit.

The kernel frees them when their holder dies.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from mh_batch.jobs.errors import StoreUnusable, WorkerRunning

_SUFFIX = ".lock"
_SUBMIT_SUFFIX = ".submit.lock"
_held: dict[Path, "FileId"] = {}


class FileId(NamedTuple):
    """Which file a name stands for, whatever its name is later."""

    device: int
    inode: int


def file_id(path: Path) -> FileId | None:
    """Return which file is at `path`, `None` if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return FileId(status.st_dev, status.st_ino)


def real_path(path: Path) -> Path:
    """Return `path` with links resolved, so that every name of a database shares one lock."""
    return Path(os.path.realpath(path))


def beside(path: Path, suffix: str) -> Path:
    """Return the file that stands beside the real database under its name plus `suffix`."""
    real = real_path(path)
    return real.with_name(real.name + suffix)


def holder(path: Path) -> int | None:
    """Return the pid of the last holder of the lock of database `path`, `None` if unknown."""
    with suppress(OSError, ValueError):
        return int(beside(path, _SUFFIX).read_text("ascii"))
    return None


def held_here(path: Path) -> bool:
    """Whether this process holds the lock of database `path`."""
    return beside(path, _SUFFIX) in _held


def require_lock(path: Path) -> None:
    """Raise `StoreUnusable` if this process took the lock of database `path` and lost it.

    The kernel keeps the lock on a file that was deleted, but another worker locks the file that
    has its name now. `path` is the real one.
    """
    target = path.with_name(path.name + _SUFFIX)
    mine = _held.get(target)
    if mine is not None and file_id(target) != mine:
        raise StoreUnusable(
            f"{target}: the lock of this worker was deleted or replaced, so another one may be at "
            "the database; what was reported done is safe. Start `mh-batch work` again"
        )


@contextmanager
def worker_lock(path: Path) -> Iterator[None]:
    """Hold the lock of database `path` for the block; its file stays, and says who holds it.

    Raises `WorkerRunning` with the pid of the holder, `StoreUnusable` where the folder cannot
    hold a lock.
    """
    target = beside(path, _SUFFIX)

    def taken() -> str:
        pid = holder(path)
        who = f"pid {pid}" if pid else "pid unknown"
        return f"{path}: another worker ({who}) is at this database; wait for it or stop it"

    with only_one(target, taken, on_acquired=partial(_sign, target)):
        try:
            yield
        finally:
            del _held[target]


@contextmanager
def only_one(
    target: Path, taken: Callable[[], str], on_acquired: Callable[..., None] | None = None
) -> Iterator[None]:
    """Hold the lock file `target` for the block, if nobody else does.

    Raises `WorkerRunning` with the text of `taken` if somebody does, and `StoreUnusable` where the
    folder cannot hold a lock.
    """
    # without its soft fallback a dead holder can never block the next one
    lock = FileLock(target, timeout=0, fallback_to_soft=False, on_acquired=on_acquired)
    try:
        lock.acquire()
    except Timeout:
        raise WorkerRunning(taken()) from None
    except OSError as error:
        raise StoreUnusable(f"{target}: cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


class SubmitLock:
    """Shows other processes that this one is submitting to the database at `path`.

    Raises `StoreUnusable` where the folder cannot hold a lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = beside(path, _SUBMIT_SUFFIX)
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreUnusable(f"{self._path}: cannot be locked: {error.strerror}") from error

    def take_alone(self) -> bool:
        """Return whether nobody else is submitting; then nobody can begin until `share`."""
        return self._lock(LOCK_EX | LOCK_NB)

    def share(self) -> None:
        """Wait for those that hold the lock alone, then hold it together with others."""
        self._lock(LOCK_SH)

    def close(self) -> None:
        """Give the lock up."""
        os.close(self._descriptor)

    def _lock(self, operation: int) -> bool:
        try:
            flock(self._descriptor, operation)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreUnusable(
                f"the folder of the database has no locks: {error.strerror}"
            ) from error
        return True


def _sign(target: Path, descriptor: int) -> None:
    """Write our pid into the lock file, for the message that a second worker gets.

    Remember which file it is.
    """
    status = os.fstat(descriptor)
    _held[target] = FileId(status.st_dev, status.st_ino)
    mode = status.st_mode
    if mode & 0o002:  # an empty umask would let everyone write here
        os.fchmod(descriptor, mode & 0o7775)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
