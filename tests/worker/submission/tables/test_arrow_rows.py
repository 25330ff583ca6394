"""Parquet and saved data sets in, as pyarrow and `datasets` write them."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.landed import land
from mh_batch.jobs.errors import BadLines, InputError
from mh_batch.worker.submission.tables import arrow_rows

QUESTIONS = {"question": ["What is 1 + 1?", "What is 2 + 2?"], "answer": ["2", "4"]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with two data sets, saved as two splits."""
    small = datasets.Dataset.from_dict(QUESTIONS)
    large = datasets.Dataset.from_dict({"question": [f"q {n}" for n in range(700)]})
    datasets.DatasetDict({"train": large, "test": small}).save_to_disk(
        tmp_path / "saved", num_shards={"train": 2, "test": 1}
    )
    return tmp_path / "saved"


def test_a_parquet_file_of_pandas_types_lands_with_all_its_columns(tmp_path: Path) -> None:
    noon = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "question": ["a"],
            "whole": pa.array([2**63], pa.uint64()),
            "real": [0.5],
            "nan": [float("nan")],
            "none": pa.array([None], pa.string()),
            "list": [[{"k": [1]}]],
            "time": pa.array([noon], pa.timestamp("ns", "UTC")),
            "day": [noon.date()],
            "money": [decimal.Decimal("1.50")],
            "raw": [b"\x00\xff"],
            "kind": pa.array(["x"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    (job,) = land(tmp_path / "in.parquet", ("prompt=question",))
    assert (job.number, job.custom_id, job.prompt) == (1, "line-1", "a")
    assert job.metadata == {
        "whole": 2**63,
        "real": 0.5,
        "nan": None,
        "none": None,
        "list": [{"k": [1]}],
        "time": "2026-01-02T12:00:00Z",
        "day": "2026-01-02",
        "money": "1.50",
        "raw": "AP8=",
        "kind": "x",
    }


def test_columns_of_messages_and_ids_are_those_of_a_line(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]
    rows: list[dict[str, Any]] = [
        {"messages": talk, "id": 5, "max_tokens": 9},
        {"messages": talk[1:], "id": 6, "max_tokens": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    first, second = land(tmp_path / "in.parquet")
    assert first.asked == [("system", "S"), ("user", "hi")]
    assert [job.custom_id for job in (first, second)] == ["5", "6"]
    assert (first.settings, second.settings) == ({"max_tokens": 9}, {})
    named = land(tmp_path / "in.parquet", ("custom_id=max_tokens",))
    assert [job.custom_id for job in named] == ["9", "line-2"]


def test_bad_rows_are_named_by_number_and_column(tmp_path: Path) -> None:
    rows = [{"q": f"ask {n}", "k": 1} for n in range(600)] + [{"q": None, "k": 1}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet", row_group_size=250)
    with pytest.raises(BadLines, match=r"^in\.parquet:601: q: empty$"):
        land(tmp_path / "in.parquet", ("prompt=q",))
    with pytest.raises(BadLines, match=r"^in\.parquet:601: q: null, where text is to be$"):
        land(tmp_path / "in.parquet", prompt="{{q}}")


def test_a_data_set_saved_by_datasets_lands_with_its_columns(saved: Path) -> None:
    jobs = land(saved / "test", ("prompt=question",))
    assert [job.prompt for job in jobs] == QUESTIONS["question"]
    assert [job.metadata for job in jobs] == [{"answer": "2"}, {"answer": "4"}]


def test_all_files_of_a_saved_data_set_are_read_in_order(saved: Path) -> None:
    jobs = land(saved / "train", prompt="{{question}}")
    assert [job.prompt for job in jobs] == [f"q {n}" for n in range(700)]
    assert [job.number for job in jobs] == list(range(1, 701))


def test_of_several_data_sets_one_is_to_be_named(saved: Path) -> None:
    with pytest.raises(InputError, match=r"holds train, test; name one of them, such as .*train"):
        land(saved, prompt="{{question}}")


def test_what_is_no_such_file_is_refused(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 is not all")
    with pytest.raises(InputError, match=r"in\.parquet: "):
        land(tmp_path / "in.parquet", prompt="{{q}}")
    with pytest.raises(InputError, match="a folder, and not a data set saved by `datasets`"):
        land(tmp_path)
    (saved / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x"}]}))
    with pytest.raises(InputError, match="x is missing"):
        land(saved / "test")


def test_without_pyarrow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (tmp_path / "in.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"pip install 'mh-batch\[data\]'"):
        land(tmp_path / "in.parquet")


def test_a_row_group_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    rows = 8 * arrow_rows.BATCH_ROWS
    table = pa.table({"q": [f"{n} " + "x" * 10_000 for n in range(rows)]})
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    # pages of a megabyte, as in a file of short rows
    pq.write_table(table, tmp_path / "in.parquet", write_batch_size=16, **plain)
    size = (tmp_path / "in.parquet").stat().st_size
    del table
    before = pa.total_allocated_bytes()
    with (tmp_path / "in.parquet").open("rb") as stream:
        most = 0
        for row in arrow_rows.parquet_rows(stream, "in.parquet", size):
            if row.number % 100 == 0:
                most = max(most, pa.total_allocated_bytes() - before)
    assert row.number == rows
    # half of the file, which is one row group
    assert most < size / 2
