"""Where results must not go."""

from contextlib import closing
from pathlib import Path

import pytest

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.worker.output.files import check_output
from mh_batch.worker.submission.submission import submit_stream


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database to which `in.jsonl` of its folder was submitted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hi"}\n')
    with (
        closing(open_store(tmp_path / "mh-batch.db")) as store,
        (tmp_path / "in.jsonl").open("rb") as lines,
    ):
        submit_stream(store, lines, NewBatch("in", "in.jsonl", Settings()))
    return tmp_path / "mh-batch.db"


@pytest.mark.parametrize("name", ["in.jsonl", "./in.jsonl", "sub/../in.jsonl", "link", "hard"])
def test_a_file_that_was_submitted_is_never_overwritten(db: Path, name: str) -> None:
    (db.parent / "sub").mkdir()
    (db.parent / "link").symlink_to("in.jsonl")
    (db.parent / "hard").hardlink_to(db.parent / "in.jsonl")
    with pytest.raises(InputError, match="would overwrite it"):
        check_output(name, db)


def test_nor_is_it_from_another_folder(
    db: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(InputError, match="would overwrite it"):
        check_output(str(db.parent / "in.jsonl"), db)


def test_other_files_are_free_also_those_that_are_there(db: Path) -> None:
    (db.parent / "out.jsonl").write_text("old")
    check_output("out.jsonl", db)
    check_output("new.jsonl", db)
    check_output("new.jsonl", db.with_name("not-yet.db"))
