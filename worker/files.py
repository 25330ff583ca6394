"""The folders of artifacts: no link inside them is followed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mh_batch.jobs.files import FOLDER_MODE, PARTIAL, make_folder

_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@contextmanager
def own_folder(base: Path, *names: str) -> Iterator[int]:
    """Open the folder `names` below `base`, making what is missing.

    `base` may be a link, for example to another disk. The folders below it are our own: raises
    `NotADirectoryError` naming what is a link or no folder, instead of following it.
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
    """Delete what unfinished writes left in a folder that one process at a time writes to."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(PARTIAL):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _inner(path: Path, outer: int) -> int:
    """Open a folder inside the open folder `outer`, making it if it is missing."""
    with suppress(FileExistsError):
        os.mkdir(path.name, FOLDER_MODE, dir_fd=outer)
    try:
        return os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
    except OSError as error:
        # for a link, the code depends on the system
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            why = "a link or no folder"
            raise NotADirectoryError(errno.ENOTDIR, why, str(path)) from None
        raise
