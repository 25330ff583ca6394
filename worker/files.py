"""Files that appear whole or not at all, and the folders they lie in.

Whatever the program puts beside a user's files goes through here: written under a fresh name that
no link can lead elsewhere, synced, and renamed.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE, FILE_MODE = 0o775, 0o664  # the umask takes away from these, never adds to them
PARTIAL = ".partial"

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class PartialFile:
    """A file on its way to `path`, in the same folder under a fresh `name`.

    `keep` puts it in its place, `discard` takes it away; after `keep` that does nothing. `out`
    takes the content. `folder` is the open folder that `path` is a name in; `None` where the path
    says which. Raises `OSError` if the folder does not take it.
    """

    def __init__(self, path: Path, folder: int | None = None) -> None:
        # short, whatever the name it is to have: file systems bound the length
        self.name = f".mh-batch-{secrets.token_hex(8)}{PARTIAL}"
        self._path = path
        self._folder = folder
        self._partial = path.with_name(self.name)
        self._kept = False
        self.out = os.fdopen(os.open(self._partial, _FRESH, FILE_MODE, dir_fd=folder), "wb")

    def keep(self) -> None:
        """Put the file in its place, on disk: over a former one, and over a link, not behind it."""
        self.out.flush()
        os.fsync(self.out.fileno())
        self.out.close()
        os.replace(self._partial, self._path, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._kept = True

    def discard(self) -> None:
        """Leave nothing of a file that was not kept; a full disk is not told twice."""
        if self._kept:
            return
        with suppress(OSError):
            self.out.close()
        with suppress(OSError):
            os.unlink(self._partial, dir_fd=self._folder)


@contextmanager
def replacing(path: Path, folder: int | None = None) -> Iterator[BinaryIO]:
    """Give a file that takes the place of `path` when the block ends well; else all stays.

    `folder` is as for `PartialFile`. Raises `OSError` if the disk does not take it.
    """
    file = PartialFile(path, folder)
    try:
        yield file.out
        file.keep()
    finally:
        file.discard()


def make_folder(target: Path) -> None:
    """Make a folder and those above it, none of them writable for everyone."""
    if not target.is_dir():
        make_folder(target.parent)
        target.mkdir(FOLDER_MODE, exist_ok=True)


@contextmanager
def own_folder(base: Path, *names: str) -> Iterator[int]:
    """Open the folder `names` below `base`, made where it is missing.

    `base` may be a link, to another disk for one. Below it all is ours: raises
    `NotADirectoryError` naming what is a link or no folder, instead of going through it.
    """
    make_folder(base)
    path, folder = base, os.open(base, _FOLDER)
    try:
        for name in names:
            path /= name
            folder, outer = _inner(path, folder), folder
            os.close(outer)
        yield folder
    finally:
        os.close(folder)


def remove_partials(folder: int) -> None:
    """Take away what unfinished writes left in a folder that one process at a time writes to."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(PARTIAL):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _inner(path: Path, outer: int) -> int:
    """Open a folder of the open folder `outer`, made if it is not there."""
    with suppress(FileExistsError):
        os.mkdir(path.name, FOLDER_MODE, dir_fd=outer)
    try:
        return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
    except OSError as error:
        # which of the two a link gives depends on the system
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            why = "a link or no folder"
            raise NotADirectoryError(errno.ENOTDIR, why, str(path)) from None
        raise
