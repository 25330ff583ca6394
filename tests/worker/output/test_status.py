"""The table of `mh-batch status`."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from helpers.store_samples import lines, submit
from mh_batch.store.connection import open_store
from mh_batch.worker.cli import app
from mh_batch.worker.output.tables import LONGEST_NAME

LONG = "evaluation-of-the-first-model-" + "x" * 60 + "-part-17"
WIDE = "数据集" * 20 + "-17"


def status(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["status", "--db", str(folder / "mh-batch.db"), *options])
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    db = open_store(tmp_path / "mh-batch.db")
    for name in (LONG, WIDE, "short"):
        submit(db, lines(1), name)
    db.close()
    return tmp_path


def test_a_long_name_is_shown_by_its_beginning_and_its_end(folder: Path) -> None:
    names = [line.split()[1] for line in status(folder).splitlines()[1:]]
    assert names[2] == "short"
    for shown, name in zip(names, (LONG, WIDE), strict=False):
        assert cell_len(shown) <= LONGEST_NAME
        begin, _, end = shown.partition("…")
        assert begin
        assert name.startswith(begin)
        assert end.endswith("17")
        assert name.endswith(end)


def test_json_has_the_whole_name(folder: Path) -> None:
    assert [batch["name"] for batch in json.loads(status(folder, "--json"))] == [
        LONG,
        WIDE,
        "short",
    ]
