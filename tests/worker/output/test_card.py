"""A folder of results with its data card, and several batches in one file."""

import csv
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import msgspec
import polars as pl
import pytest
from mlx_lm.tuner.datasets import load_local_dataset
from typer.testing import CliRunner, Result

from helpers.store_samples import finish_next, line, lines, model, start, submit
from mh_batch.jobs.jsonl.line_settings import UNCHECKED
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.changes import retry_settings
from mh_batch.store.connection import open_store
from mh_batch.store.lookup import find_target
from mh_batch.store.reports.provenance import Origin
from mh_batch.worker.cli import app
from mh_batch.worker.output.card import model_name

HOSTILE = "a|b `c` <d>"


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: batches of three and of two jobs, `line-1` and `line-2` in both.

    The third job of the first was tried again with another setting, and is done too.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    db = open_store(Path("mh-batch.db"))
    submit(db, lines(3), "first", settings=apply(Settings(), {"max_tokens": 48}))
    submit(db, [line(1), line(2)], HOSTILE)
    run_id = start(db)
    finish_next(db, run_id)
    finish_next(db, run_id)
    finish_next(db, run_id, JobEnd(Status.INCOMPLETE, "length", "ran out"))
    values = retry_settings.typed({"max_tokens": 96})
    target = find_target(db, "3")
    assert retry_settings.retry(db, [target], {Status.INCOMPLETE}, values, UNCHECKED) == [1]
    job = queue.claim(db, run_id, model(), "demo")
    assert job is not None
    queue.finish(db, job.id, JobEnd(Status.FAILED, "model_crashed", "it died"))
    finish_next(db, run_id)
    finish_next(db, run_id)
    db.close()
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def said(*arguments: str) -> list[str]:
    done = run(*arguments)
    assert done.exit_code == 0, done.exception
    return done.stderr.splitlines()


def loaded(folder: str) -> Any:
    return datasets.load_dataset(folder, cache_dir=str(Path("cache").resolve()))


@pytest.mark.usefixtures("night")
def test_several_batches_are_one_file_in_the_order_they_are_named() -> None:
    assert said("results", HOSTILE, "1", "-o", "out.csv") == [
        "5 rows in out.csv",
        "2 custom_ids stand in more than one of the batches: `batch_id` tells them apart",
    ]
    with Path("out.csv").open(newline="") as file:
        rows = [(row["batch"], row["custom_id"]) for row in csv.DictReader(file)]
    assert rows == [
        *((HOSTILE, f"line-{n}") for n in (1, 2)),
        *(("first", f"line-{n}") for n in (1, 2, 3)),
    ]
    assert said("results", "1", "2", "-o", "out.jsonl")[1].endswith(": `id` tells them apart")
    ids = [json.loads(text)["id"] for text in Path("out.jsonl").read_text().splitlines()]
    assert len(set(ids)) == 5
    pairs = said("results", "1", "2", "-o", "pairs.jsonl", "--format", "completion")
    assert pairs[-1].endswith("a row of this format does not say of which")


@pytest.mark.usefixtures("night")
def test_a_batch_that_is_none_or_named_twice_is_refused_before_anything_is_written() -> None:
    for refs, told in ((("1", "nowhere"), "no batch 'nowhere'"), (("1", "first"), "named twice")):
        assert told in str(run("results", *refs, "-o", "out.jsonl").exception)
    assert not Path("out.jsonl").exists()


@pytest.mark.usefixtures("night")
def test_the_jobs_of_one_id_are_in_one_part_of_a_split_whatever_their_batch() -> None:
    said("results", "1", "2", "-o", "parts", "--split", "train=0.5,test=0.5")
    parts = [
        {json.loads(text)["custom_id"] for text in path.read_text().splitlines()}
        for path in Path("parts").iterdir()
    ]
    assert not set.intersection(*parts) or len(parts) == 1


@pytest.mark.usefixtures("night")
def test_a_folder_with_a_card_is_a_data_set_that_says_where_it_comes_from() -> None:
    assert said("results", "1", "2", "-o", "set", "--card") == [
        "5 rows in set/train.parquet",
        "2 custom_ids stand in more than one of the batches: `batch_id` tells them apart",
        "the card is set/README.md",
    ]
    found = loaded("set")
    assert list(found) == ["train"]
    ids = pl.read_parquet("set/train.parquet")["custom_id"].to_list()
    assert list(found["train"]["custom_id"]) == ids
    text = Path("set/README.md").read_text()
    assert text.startswith("---\nlicense: unknown  # fill in, such as cc-by-4.0\n")
    for told in (
        "| train.parquet | 5 |",
        "| 1 (first) | demo | " + "f" * 64 + " | 1 | cpu | mlx 1.0 |",
        "| 1 (first) | 3 | 0 | 0 | 2 | 0 | 1 | 0 | 0 | 3 | 0 | 9 |",
        "| `max_tokens` | 48 |",
        '1 job queued again with {"max\\_tokens":96}.',
        r"2 (a\|b \`c\` \<d\>)",
        "2 custom_ids stand in more than one of the batches",
    ):
        assert told in text, text


@pytest.mark.usefixtures("night")
def test_the_format_and_the_split_choose_the_files_beside_the_card() -> None:
    said("results", "1", "-o", "chat", "--card", "--format", "messages")
    rows = loaded("chat")["train"]
    assert [row["custom_id"] for row in rows] == ["line-1", "line-2"]
    args, tokenizer = SimpleNamespace(mask_prompt=False), SimpleNamespace()
    train, _, _ = load_local_dataset(Path("chat"), tokenizer, args)
    assert len(train) == 2
    said("results", "1", "-o", "parts", "--card", "--split", "train=0.5,held-out=0.5")
    parts = loaded("parts")
    assert {name: len(rows) for name, rows in parts.items()} == {
        path.stem.replace("-", "_"): pl.read_parquet(path).height
        for path in Path("parts").glob("*.parquet")
    }
    assert sum(map(len, parts.values())) == 3


@pytest.mark.usefixtures("night")
def test_a_licence_that_was_filled_in_stays_and_a_readme_of_others_is_not_overwritten() -> None:
    said("results", "1", "-o", "set", "--card")
    card = Path("set/README.md")
    card.write_text(card.read_text().replace("license: unknown", "license: cc-by-4.0"))
    said("results", "1", "2", "-o", "set", "--card", "--format", "json")
    assert "license: cc-by-4.0  # fill in" in card.read_text()
    assert len(loaded("set")["train"]) == 5
    card.write_text("# Mine")
    assert "is no data card of mh-batch" in str(run("results", "-o", "set", "--card").exception)
    assert card.read_text() == "# Mine"


@pytest.mark.usefixtures("night")
def test_a_card_needs_a_folder() -> None:
    assert "--card: needs -o FOLDER" in str(run("results", "--card").exception)
    Path("file").touch()
    assert "file is not a folder" in str(run("results", "-o", "file", "--card").exception)


@pytest.mark.usefixtures("night")
def test_a_card_of_nothing_names_no_file() -> None:
    said("results", "1", "-o", "none", "--card", "--status", "cancelled")
    assert [path.name for path in Path("none").iterdir()] == ["README.md"]
    assert "configs:" not in Path("none/README.md").read_text()


def test_a_folder_of_a_model_is_named_without_the_way_to_it() -> None:
    origin = Origin("/home/me/models/tiny", "f", None, None, 1)
    assert model_name(origin) == "tiny"
    assert model_name(msgspec.structs.replace(origin, model="org/tiny")) == "org/tiny"
    for name, shown in (
        ("demo///home/me/adapters/n1", "demo//n1"),
        ("/home/me/qwen//home/me/adapters/n1", "qwen//n1"),
        ("org/tiny//runs/n1", "org/tiny//n1"),
        ("~/models/tiny", "tiny"),
        ("../models/tiny", "tiny"),
        ("my/models/tiny", "tiny"),
    ):
        assert model_name(msgspec.structs.replace(origin, model=name)) == shown


@pytest.mark.usefixtures("night")
def test_what_the_model_itself_says_is_on_the_card() -> None:
    with closing(open_store(Path("mh-batch.db"))) as db, db.conn:
        db.conn.execute("UPDATE batch_models SET defaults = '{\"temperature\":0.6}'")
    said("results", "1", "-o", "own", "--card")
    assert "demo itself says: temperature 0.6." in Path("own/README.md").read_text()
