"""Parquet and JSON out: typed columns that other programs read back."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from helpers.store_samples import DONE, attempt, claim, generation, start, submit, turn
from mh_batch.jobs.conversation import FunctionCall, Message, Request, ToolCall
from mh_batch.jobs.record import AttemptKey, JobEnd, JobLine
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.worker.cli import app
from mh_batch.worker.output import parquet

CALL = ToolCall("call_1", FunctionCall("f", '{"x": 1.50}'))
TALK = (
    Message("system", "S"),
    Message("user", "first"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "ten", name="f", tool_call_id="call_1"),
    Message("user", "second \u2028 ä"),
)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: its database has a conversation of two choices, and a failed job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    db = open_store(Path("mh-batch.db"))
    raw = msgspec.Raw(b'{"topic": "sums", "k": 1.50}')
    jobs = [
        JobLine(1, "talk", None, Request(TALK, n=2), raw),
        JobLine(2, "long", None, Request(turns=("a", "b"))),
    ]
    submit(db, jobs)
    run_id = start(db)
    job = claim(db, run_id)
    for choice in (0, 1):
        key = AttemptKey(choice=choice)
        made = msgspec.structs.replace(attempt(key), generation=generation(text=f"four {choice}"))
        said = msgspec.structs.replace(turn(key), final=f"four {choice}", analysis="hm")
        queue.record(db, job.id, run_id, made, said, DONE if choice else None)
    failed = JobEnd(Status.FAILED, "prompt_too_long", "too long")
    queue.finish(db, claim(db, run_id).id, failed)
    db.close()
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def out(night: Path) -> Path:
    done = run("results", "-o", "out.parquet")
    assert (done.exit_code, done.stderr) == (0, "3 rows in out.parquet\n"), done.exception
    return night / "out.parquet"


def test_parquet_has_typed_columns_and_a_row_for_each_choice(out: Path) -> None:
    table = pq.read_table(out)
    first, second, failed = table.to_pylist()
    assert (first["custom_id"], first["choice"], first["final"]) == ("talk", 0, "four 0")
    assert (second["choice"], second["final"], second["analysis"]) == (1, "four 1", "hm")
    assert json.loads(first["metadata"]) == {"topic": "sums", "k": 1.5}
    assert first["messages"][1] == dict.fromkeys(first["messages"][1]) | {
        "role": "user",
        "content": "first",
    }
    assert [m["role"] for m in first["messages"]] == [
        *("system", "user", "assistant", "tool", "user", "assistant"),
    ]
    assert first["messages"][2]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1.50}'}}
    ]
    assert first["messages"][-1]["thinking"] == "hm"
    assert (first["prompt_tokens"], first["completion_tokens"]) == (11, 3)
    assert (first["decode_seconds"], first["tokens_per_second"]) == (0.5, 4.0)
    assert isinstance(first["finished_at"], datetime.datetime)
    assert first["rescued"] is False
    assert (failed["status"], failed["error_code"], failed["final"]) == (
        *("failed", "prompt_too_long"),
        None,
    )
    assert [m["content"] for m in failed["messages"]] == ["a", "b"]
    assert failed["metadata"] is None
    assert table.schema.field("finished_at").type == pa.timestamp("ms", "UTC")


def test_pandas_polars_and_datasets_read_it_back(out: Path, tmp_path: Path) -> None:
    wanted = pq.read_table(out).to_pylist()
    frame = pd.read_parquet(out)
    assert list(frame["final"][:2]) == ["four 0", "four 1"]
    assert frame["messages"][0][1]["content"] == "first"
    assert str(frame["finished_at"].dtype) == "datetime64[ms, UTC]"
    assert pl.read_parquet(out).drop("finished_at").to_dicts() == [
        {name: value for name, value in row.items() if name != "finished_at"} for row in wanted
    ]
    loaded: Any = datasets.load_dataset(
        "parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names == list(wanted[0])
    assert [row["messages"] for row in loaded] == [row["messages"] for row in wanted]


def test_json_is_an_array_of_the_same_rows(out: Path) -> None:
    assert run("results", "-o", "out.json").stderr == "3 rows in out.json\n"
    rows = json.loads(Path("out.json").read_bytes())
    for row in rows:
        when = row.pop("finished_at")
        row["finished_at"] = when and datetime.datetime.fromisoformat(when)
    wanted = pq.read_table(out).to_pylist()
    assert rows == [{**row, "finished_at": row["finished_at"]} for row in wanted]
    assert json.loads(run("results", "--format", "json", "--status", "cancelled").stdout) == []


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("a.csv", b"batch,batch_id,"),
        ("a.JSONL", b'{"id":"batch_req_1"'),
        ("a", b'{"id":"batch_req_1"'),
        ("a.json", b'[{"custom_id":"talk"'),
        ("a.Parquet", b"PAR1"),
    ],
)
def test_the_ending_of_the_file_chooses_the_format(name: str, begin: bytes) -> None:
    assert run("results", "-o", name).exit_code == 0
    assert Path(name).read_bytes().startswith(begin)


@pytest.mark.usefixtures("night")
def test_a_format_that_is_named_wins_over_the_ending() -> None:
    run("results", "-o", "a.csv", "--format", "messages")
    first = json.loads(Path("a.csv").read_bytes().splitlines()[0])
    assert first["messages"][-1]["content"] == "four 0"


@pytest.mark.usefixtures("night")
def test_parquet_needs_a_file_and_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    error = run("results", "--format", "parquet").exception
    assert str(error) == ("--format parquet: is not for a terminal or a pipe; name a file by -o")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    error = run("results", "-o", "a.parquet").exception
    assert "pip install 'mh-batch[data]'" in str(error)
    assert not Path("a.parquet").exists()


@pytest.mark.usefixtures("night")
def test_a_split_writes_a_parquet_file_for_each_part() -> None:
    done = run("results", "--format", "parquet", "--split", "train=0.5,test=0.5", "-o", "parts")
    assert done.exit_code == 0, done.exception
    rows = [row for path in Path("parts").iterdir() for row in pq.read_table(path).to_pylist()]
    assert sorted(row["final"] or "" for row in rows) == ["", "four 0", "four 1"]


def rows_of(out: Path, count: int) -> Iterator[dict[str, Any]]:
    (row, *_) = pq.read_table(out).to_pylist()
    row["finished_at"] = "2026-01-02T03:04:05.678Z"
    for number in range(count):
        yield {**row, "position": number}


def test_rows_are_written_in_groups(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    with Path("many.parquet").open("wb") as file:
        with parquet.parquet_writer(file) as write:
            for row in rows_of(out, 10):
                write(row)
        file.write(b"")  # it is still open
    file = pq.ParquetFile("many.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 4, 2]
    found = pq.read_table("many.parquet").to_pylist()
    assert [row["position"] for row in found] == list(range(10))
    assert found[0]["finished_at"].isoformat() == "2026-01-02T03:04:05.678000+00:00"


def test_an_error_in_the_middle_leaves_the_earlier_file(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = out.read_bytes()
    monkeypatch.setattr(parquet, "_time", lambda _: 1 / 0)
    error = run("results", "-o", str(out)).exception
    assert isinstance(error, ZeroDivisionError)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.glob(".*.partial")] == []
