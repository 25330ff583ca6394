"""Write files whole or not at all, and make their folders.

Every file that the program writes beside a user's files is written here: to a temporary file with
a new name, which no link can redirect; then it is synced and renamed.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FOLDER_MODE, FILE_MODE = 0o775, 0o664  # the umask takes away from these, never adds to them
PARTIAL = ".partial"

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class PartialFile:
    """A temporary file called `name` in the folder of `path`.

    Write to `out`, then `keep` renames it to `path`, or `discard` deletes it; after `keep`, that
    does nothing. `folder` is an open folder that `path` is relative to, `None` for none. Raises
    `OSError` if the file cannot be made.
    """

    def __init__(self, path: Path, folder: int | None = None) -> None:
        # independent of the final name, which may be as long as the file system allows
        self.name = f".mh-batch-{secrets.token_hex(8)}{PARTIAL}"
        self._path = path
        self._folder = folder
        self._partial = path.with_name(self.name)
        self._kept = False
        self.out = os.fdopen(os.open(self._partial, _FRESH, FILE_MODE, dir_fd=folder), "wb")

    def keep(self) -> None:
        """Sync the file and rename it to `path`, replacing a file or a link there."""
        self.out.flush()
        os.fsync(self.out.fileno())
        self.out.close()
        os.replace(self._partial, self._path, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._kept = True

    def discard(self) -> None:
        """Delete the file unless it was kept; errors, as of a full disk, are not raised again."""
        if self._kept:
            return
        with suppress(OSError):
            self.out.close()
        with suppress(OSError):
            os.unlink(self._partial, dir_fd=self._folder)


@contextmanager
def replacing(path: Path, folder: int | None = None) -> Iterator[BinaryIO]:
    """Give a file that replaces `path` at the end of the block, unless the block raises.

    `folder` is as for `PartialFile`. Raises `OSError` if the file cannot be written.
    """
    file = PartialFile(path, folder)
    try:
        yield file.out
        file.keep()
    finally:
        file.discard()


def make_folder(target: Path) -> None:
    """Make a folder and its parents, none of them writable for everyone."""
    if not target.is_dir():
        make_folder(target.parent)
        target.mkdir(FOLDER_MODE, exist_ok=True)
