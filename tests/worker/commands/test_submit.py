"""The command `submit` with tables: what its options queue, print and refuse."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.command_line import mh_batch, rows

TABLE = "question,answer\nWhat is 2 + 3?,5\nWhat is 17 + 25?,42\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sums.csv").write_text(TABLE)
    return tmp_path


def test_a_csv_is_queued_by_one_command_with_settings_as_options(folder: Path) -> None:
    done = mh_batch(
        *(folder, "submit", "sums.csv", "--prompt", "Sum: {{question}}", "--system", "Be short."),
        *("--max-tokens", "32", "--temperature", "0.5", "--set", "top_p=0.9", "--n", "2"),
    )
    assert done.stderr == "batch 1 (sums): 2 jobs queued\n"
    ((settings,),) = rows(folder, "SELECT settings FROM batches")
    sampling = json.loads(settings)["sampling"]
    assert (sampling["max_tokens"], sampling["temperature"], sampling["top_p"]) == (32, 0.5, 0.9)
    found = rows(folder, "SELECT custom_id, request, metadata FROM jobs ORDER BY position")
    assert [name for name, _, _ in found] == ["line-2", "line-3"]
    assert [json.loads(metadata) for _, _, metadata in found] == [{"answer": "5"}, {"answer": "42"}]
    assert json.loads(found[0][1]) == {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Sum: What is 2 + 3?"},
        ],
        "n": 2,
    }


def test_rows_are_chosen_and_repeated_by_options(folder: Path) -> None:
    arguments = ("--map", "prompt=question", "--limit", "2", "--sample", "1", "--seed", "3")
    mh_batch(folder, "submit", "sums.csv", *arguments, "--repeat", "2")
    assert len(rows(folder, "SELECT 1 FROM jobs")) == 2
    assert len(rows(folder, "SELECT DISTINCT position FROM jobs")) == 1


def test_ids_that_are_there_twice_are_told(folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"prompt": "x", "id": 1}\n' * 2)
    told = mh_batch(folder, "submit", "in.jsonl").stderr
    assert "lines 1 and 2 have the same id: each custom_id is line-<number>\n" in told


def test_a_value_out_of_range_is_refused_as_the_setting_that_it_is(folder: Path) -> None:
    arguments = ("submit", "sums.csv", "--map", "prompt=question", "--temperature", "3")
    assert "temperature: " in mh_batch(folder, *arguments, code=2).stderr
    assert not (folder / "mh-batch.db").exists() or not rows(folder, "SELECT 1 FROM batches")


def test_run_takes_a_table_and_writes_one_and_goes_on_with_the_same_batch(folder: Path) -> None:
    arguments = (
        "run",
        "sums.csv",
        "--map",
        "prompt=question",
        "--model",
        "demo",
        "-o",
        "out.parquet",
    )
    mh_batch(folder, *arguments)
    found = pq.read_table(folder / "out.parquet").to_pylist()
    assert [(row["custom_id"], row["status"]) for row in found] == [
        *(("line-2", "done"), ("line-3", "done")),
    ]
    assert all(json.loads(row["metadata"])["answer"] in row["final"] for row in found)
    assert all(row["prefill_seconds"] > 0 and row["decode_seconds"] > 0 for row in found)
    assert "sums.csv is already batch 1: going on with it" in mh_batch(folder, *arguments).stderr


def test_a_dry_run_measures_the_rows_of_a_table(folder: Path) -> None:
    arguments = ("submit", "sums.csv", "--map", "prompt=question", "--model", "demo", "--check")
    assert "2 lines" in mh_batch(folder, *arguments).stdout


def test_unknown_keys_of_bodies_are_refused_or_left_out_and_counted(folder: Path) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "provider": {}, "transforms": []}
    lines = [{"body": body}, {"body": body | {"route": "x"}}]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = mh_batch(folder, "submit", "in.jsonl", code=2).stderr
    assert "body.provider: unknown; --ignore-unknown leaves such keys out" in told
    told = mh_batch(folder, "submit", "in.jsonl", "--ignore-unknown").stderr
    assert "2 jobs queued" in told
    found = "unknown keys left out: provider (2 lines), transforms (2 lines), route (1 line)\n"
    assert found in told
    assert rows(folder, "SELECT metadata FROM jobs") == [(None,), (None,)]


def test_the_names_of_what_was_set_are_stored_with_the_batch(folder: Path) -> None:
    (folder / "mh-batch.toml").write_text("[settings]\ntop_p = 1.0\n")
    arguments = ("--map", "prompt=question", "--temperature", "1", "--profile", "steady")
    mh_batch(folder, "submit", "sums.csv", *arguments)
    ((given,),) = rows(folder, "SELECT settings_given FROM batches")
    expected = ["history_tokens", "max_kv_size", "max_tokens", "temperature", "top_p"]
    assert json.loads(given) == expected


def test_an_adapter_that_is_not_there_is_told_and_may_come_later(folder: Path) -> None:
    arguments = ("--map", "prompt=question", "--model", "demo", "--adapter", "later")
    done = mh_batch(folder, "submit", "sums.csv", *arguments)
    assert done.stderr.splitlines() == [
        "--adapter later: no such folder; its jobs stay queued until there is one",
        "batch 1 (sums): 2 jobs queued",
    ]
