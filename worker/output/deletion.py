"""`mh-batch delete`: what goes with a batch, its files, and the space that becomes free."""

import shutil
from pathlib import Path

import msgspec

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.store.changes.removal import Extent, Space
from mh_batch.worker.text.format import MIB, format_count, format_size

WORTH_VACUUM = 64 * MIB
"""From so much free space on, it is named."""


class Artifacts(msgspec.Struct, frozen=True):
    """The folder with the files of a batch's attempts, and how many there are."""

    folder: Path
    files: int


def artifacts(db: Path, batch_id: int) -> Artifacts | None:
    """Return the files of a batch beside the database; `None` if there are none.

    A link in place of the folder leads elsewhere: what is behind it is not ours.
    """
    folder = db.resolve().parent / "logs" / str(batch_id)
    if folder.is_symlink() or not folder.is_dir():
        return None
    return Artifacts(folder, sum(path.is_file() for path in folder.rglob("*")))


def describe(extent: Extent, found: Artifacts | None) -> str:
    """Return what would be deleted, in words."""
    parts = [format_count(extent.jobs, "job")]
    if extent.queued:
        parts[0] += f" ({extent.queued} still queued)"
    parts.append(format_count(extent.attempts, "attempt"))
    if found is not None:
        parts.append(f"{format_count(found.files, 'file')} in {found.folder}")
    return ", ".join(parts)


def remove(found: Artifacts | None) -> None:
    """Delete the files of a batch; links in the folder are removed, not followed."""
    if found is None:
        return
    try:
        shutil.rmtree(found.folder)
    except OSError as error:
        raise EnvironmentFault(
            f"{error.filename or found.folder}: {error.strerror}; the batch is deleted, its files "
            "are not all"
        ) from None


def free_note(space: Space) -> str | None:
    """Return a note about the space that a database could give back; `None` if that is little."""
    if space.free < WORTH_VACUUM:
        return None
    return (
        f"{format_size(space.free)} of {format_size(space.size)} are free: later jobs fill them, "
        "`mh-batch vacuum` gives them back to the disk"
    )
