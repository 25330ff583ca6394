"""Files as clients of the server see them: uploads, and the results of ended batches."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from sqlite_utils import Database

from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot
from mh_batch.store.lock import beside

from .pending import PENDING

Part = Literal["output", "errors"]
"""Which results of a batch: the answers, or the jobs without one."""

_COLUMNS = "id, purpose, batch_id, part, bytes, created_at, filename"
# results may be empty after a retry: then there is no such file, until there is one again
_THERE = "deleted_at IS NULL AND (purpose = 'batch' OR (batch_id IS NOT NULL AND bytes > 0))"
_FIND = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND {_THERE}"
_LIST = f"""
SELECT {_COLUMNS} FROM files
WHERE {_THERE} AND (:purpose IS NULL OR purpose = :purpose) AND (:after IS NULL OR id {{}} :after)
ORDER BY id {{}}
LIMIT :most
"""
_ADD = """
INSERT INTO files (purpose, bytes, created_at, filename) VALUES ('batch', ?, ?, ?) RETURNING id
"""
_ADD_PART = """
INSERT INTO files (purpose, batch_id, part, bytes, created_at, filename)
VALUES ('batch_output', ?, ?, ?, ?, ?)
ON CONFLICT (batch_id, part) WHERE batch_id IS NOT NULL DO UPDATE SET bytes = excluded.bytes
"""
_EMPTY_PART = "UPDATE files SET bytes = 0 WHERE batch_id = ? AND part = ?"
_DELETE = "UPDATE files SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL"
_IN_USE = f"SELECT EXISTS (SELECT 1 FROM api_batches AS a WHERE a.file_id = ? AND {PENDING})"


class StoredFile(msgspec.Struct, frozen=True):
    """A file that was not deleted; `batch_id` and `part` say whose results it has, else `None`."""

    id: int
    purpose: str
    batch_id: int | None
    part: Part | None
    bytes: int
    created_at: str
    filename: str


class FileQuery(msgspec.Struct, frozen=True):
    """Which files to list: up to `limit` of a `purpose` (`None`: any) behind the one `after`."""

    limit: int
    after: int | None = None
    purpose: str | None = None
    ascending: bool = False


def uploads_folder(path: Path) -> Path:
    """Return the folder of the uploads to the database at `path`."""
    return beside(path, ".files")


def add_file(db: Database, filename: str, nbytes: int, keep: Callable[[int], object]) -> StoredFile:
    """Store an upload; `keep` moves its content to where it stays, under the id that it is given.

    The row is there only if that went well.
    """
    with immediate(db):
        file_id = int(db.conn.execute(_ADD, (nbytes, now(), filename)).fetchone()[0])
        keep(file_id)
        return _file(db.conn.execute(_FIND, (file_id,)).fetchone())


def find_file(db: Database, file_id: int) -> StoredFile | None:
    """Return a file, `None` if there is none or it was deleted."""
    row = db.conn.execute(_FIND, (file_id,)).fetchone()
    return None if row is None else _file(row)


def list_files(db: Database, query: FileQuery) -> tuple[list[StoredFile], bool]:
    """Return the files of a page, latest first unless `ascending`, and whether there are more."""
    sign, order = (">", "ASC") if query.ascending else ("<", "DESC")
    values = {"purpose": query.purpose, "after": query.after, "most": query.limit + 1}
    with snapshot(db):
        rows = db.conn.execute(_LIST.format(sign, order), values).fetchall()
    return [_file(row) for row in rows[: query.limit]], len(rows) > query.limit


def delete_file(db: Database, file_id: int) -> bool:
    """Mark a file as deleted; `False` if a batch that is being validated needs it."""
    with immediate(db):
        if db.conn.execute(_IN_USE, (file_id,)).fetchone()[0]:
            return False
        db.conn.execute(_DELETE, (now(), file_id))
    return True


def put_part(db: Database, batch_id: int, part: Part, nbytes: int) -> None:
    """Store how large the results of a batch are; part of the caller's transaction.

    Without any, there is no such file.
    """
    if nbytes:
        name = f"batch_{batch_id}_{part}.jsonl"
        db.conn.execute(_ADD_PART, (batch_id, part, nbytes, now(), name))
    else:
        db.conn.execute(_EMPTY_PART, (batch_id, part))


def remove_leftovers(db: Database, folder: Path) -> None:
    """Delete what is in the folder of uploads and belongs to no file: an upload that broke off.

    Only the one server of the database may call it.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        numbered = path.stem.isdigit()
        known = numbered and find_file(db, int(path.stem)) is not None
        if not known and (numbered or path.name.startswith(".mh-batch-")):
            path.unlink(missing_ok=True)


def content_path(folder: Path, file_id: int) -> Path:
    """Return where the content of an upload is: no part of it comes from a client."""
    return folder / f"{file_id}.jsonl"


def _file(row: sqlite3.Row) -> StoredFile:
    return msgspec.convert(dict(row), StoredFile)
