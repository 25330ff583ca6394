"""Files of clients as rows, and their contents in the folder beside the database."""

from pathlib import Path

import pytest
from sqlite_utils import Database

from helpers.store_samples import lines, submit
from mh_batch.store.connection import immediate
from mh_batch.store.server.files import (
    FileQuery,
    add_file,
    content_path,
    delete_file,
    find_file,
    list_files,
    put_part,
    remove_leftovers,
    uploads_folder,
)
from mh_batch.store.server.pending import NewApiBatch, add_batch


def keep_nothing(_: int) -> None:
    """Store no content."""


def add(db: Database, name: str = "a.jsonl", nbytes: int = 5) -> int:
    return add_file(db, name, nbytes, keep_nothing).id


def test_a_file_is_found_as_it_was_added(db: Database) -> None:
    kept: list[int] = []
    file = add_file(db, "../näme.jsonl", 7, kept.append)
    assert kept == [file.id]
    assert find_file(db, file.id) == file
    assert (file.filename, file.bytes, file.purpose, file.part) == (
        "../näme.jsonl", 7, "batch", None
    )  # fmt: skip


def test_a_file_whose_content_cannot_be_kept_is_not_added(db: Database) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        add_file(db, "a.jsonl", 7, full)
    assert list_files(db, FileQuery(10)) == ([], False)


def test_no_id_is_given_twice(db: Database) -> None:
    first = add(db)
    assert delete_file(db, first)
    assert find_file(db, first) is None
    assert add(db) == first + 1


def test_pages_of_files_follow_each_other_in_both_orders(db: Database) -> None:
    ids = [add(db) for _ in range(5)]
    page, more = list_files(db, FileQuery(2))
    assert ([file.id for file in page], more) == (ids[:2:-1], True)
    page, more = list_files(db, FileQuery(3, after=page[-1].id))
    assert ([file.id for file in page], more) == (ids[2::-1], False)
    page, more = list_files(db, FileQuery(4, ascending=True))
    assert ([file.id for file in page], more) == (ids[:4], True)


def test_a_file_that_a_batch_is_being_made_of_cannot_be_deleted(db: Database) -> None:
    file_id = add(db)
    moment = "2026-05-01T01:00:00.000Z"
    add_batch(db, NewApiBatch(file_id, "/v1/chat/completions", "24h", moment, moment, None))
    assert not delete_file(db, file_id)
    assert find_file(db, file_id) is not None


def test_results_are_a_file_while_there_are_any(db: Database) -> None:
    batch_id = submit(db, lines(1))
    for nbytes, found in ((10, [10]), (0, []), (25, [25])):
        with immediate(db):
            put_part(db, batch_id, "errors", nbytes)
        files, _ = list_files(db, FileQuery(10, purpose="batch_output"))
        assert [file.bytes for file in files] == found


def test_a_deleted_file_of_results_stays_deleted(db: Database) -> None:
    batch_id = submit(db, lines(1))
    for _ in range(2):
        with immediate(db):
            put_part(db, batch_id, "output", 10)
        for file in list_files(db, FileQuery(10))[0]:
            delete_file(db, file.id)
    assert list_files(db, FileQuery(10)) == ([], False)


def test_only_what_belongs_to_no_file_is_removed(db: Database, path: Path) -> None:
    folder = uploads_folder(path)
    assert folder.parent == path.resolve().parent
    remove_leftovers(db, folder)
    folder.mkdir()
    there, gone = add(db), add(db)
    delete_file(db, gone)
    for number in (there, gone, 99):
        content_path(folder, number).write_text("{}")
    (folder / ".mh-batch-0123.partial").touch()
    (folder / "notes.txt").touch()
    remove_leftovers(db, folder)
    left = sorted(file.name for file in folder.iterdir())
    assert left == sorted([content_path(folder, there).name, "notes.txt"])
