"""Tables of pandas, polars, pyarrow and Hugging Face datasets go into the queue like files."""

import datetime
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import datasets
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mh_batch import submit
from mh_batch.jobs.errors import AlreadySubmitted, BadLines, InputError
from mh_batch.store import open_reader

COLUMNS: dict[str, list[Any]] = {
    "id": [7, 8, 9],
    "question": ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"],
    "answer": ["2", "4", None],
    "at": [datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for day in (1, 2, 3)],
}
MAP = {"prompt": "question", "custom_id": "id"}
KINDS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "polars": lambda: pl.DataFrame(COLUMNS),
    "pyarrow": lambda: pa.table(COLUMNS),
    "reader": lambda: pa.table(COLUMNS).to_reader(max_chunksize=2),
    "datasets": lambda: datasets.Dataset.from_dict(COLUMNS),
    "chosen": lambda: (
        datasets.Dataset.from_dict({name: [*values, *values] for name, values in COLUMNS.items()})
        .select([3, 4, 5])
        .with_format("numpy")
    ),
}


def jobs(db: Path) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The jobs by custom_id, with their messages and metadata."""
    with closing(open_reader(db)) as reader:
        rows = list(reader.query("select custom_id, request, metadata from jobs order by id"))
    decode = msgspec.json.decode
    return [
        (row["custom_id"], decode(row["request"]), decode(row["metadata"] or b"{}")) for row in rows
    ]


@pytest.fixture(scope="module")
def from_file(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the same table becomes as a Parquet file: that is tested with the commands."""
    folder = tmp_path_factory.mktemp("file")
    pq.write_table(pa.table(COLUMNS), folder / "sums.parquet")
    submit(folder / "a.db", folder / "sums.parquet", map=MAP)
    return jobs(folder / "a.db")


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_in_memory_becomes_what_its_file_becomes(
    kind: str, from_file: list[Any], tmp_path: Path
) -> None:
    assert submit(tmp_path / "a.db", KINDS[kind](), map=MAP).jobs == 3
    assert jobs(tmp_path / "a.db") == from_file
    assert from_file[0][0] == "7"
    assert from_file[0][2]["answer"] == "2"


def test_a_table_with_the_columns_of_a_line_needs_no_option(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hello"}]
    frame = pd.DataFrame({"messages": [talk], "max_tokens": [5], "topic": ["greeting"]})
    submit(tmp_path / "a.db", frame)
    ((custom_id, request, metadata),) = jobs(tmp_path / "a.db")
    assert (custom_id, metadata) == ("line-1", {"topic": "greeting"})
    assert request["settings"] == {"max_tokens": 5}


def test_an_index_with_a_name_is_a_column_and_one_without_is_none(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": ["a", "b"]}, index=[5, 6])
    submit(tmp_path / "a.db", frame)
    submit(tmp_path / "a.db", frame.rename_axis("custom_id"), again=True)
    assert [(name, about) for name, _, about in jobs(tmp_path / "a.db")] == [
        *[("line-1", {}), ("line-2", {})],
        *[("5", {}), ("6", {})],
    ]


def test_the_same_table_is_a_second_batch_only_when_told_so(tmp_path: Path) -> None:
    submit(tmp_path / "a.db", KINDS["polars"](), map=MAP)
    with pytest.raises(AlreadySubmitted, match="again=True submits it once more"):
        submit(tmp_path / "a.db", KINDS["polars"](), map=MAP)
    # with other options it is another batch
    submit(tmp_path / "a.db", KINDS["polars"](), map=MAP, limit=2)
    assert len(jobs(tmp_path / "a.db")) == 5


def test_rows_are_named_by_their_number_and_column(tmp_path: Path) -> None:
    frame = pl.DataFrame({"question": ["a", None]})
    with pytest.raises(BadLines, match="sums:2: question: empty"):
        submit(tmp_path / "a.db", frame, name="sums", map={"prompt": "question"})
    with pytest.raises(InputError, match=r"sums: no column is a conversation.*map=\{\"prompt\": "):
        submit(tmp_path / "a.db", frame, name="sums")
    with pytest.raises(InputError, match=r"python: .*question"):
        submit(tmp_path / "a.db", pd.DataFrame({"question": [1, "a", {}]}), map=MAP)


class Frame:
    """A table of a library that nobody knows: iterating over it yields its columns."""

    columns = ("prompt",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Store:
    """Something with keys."""

    def keys(self) -> list[str]:
        return ["prompt"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Frame(), "a .*Frame is no table that is known"),
        (Store(), "a .*Store is no table that is known"),
        (b"Hello", "a builtins.bytes is no table"),
        (5, "a builtins.int is no table"),
        (pl.LazyFrame({"prompt": ["a"]}), r"a polars.LazyFrame has no rows yet; .* collect\(\)"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_dict({"prompt": ["a"]})}),
            "holds train; submit one of them",
        ),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_would_be_queued_as_the_names_of_its_columns_is_refused(
    given: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        submit(tmp_path / "a.db", given)
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    "series",
    [pd.Series(["a", "b"]), pl.Series(["a", "b"]), pd.Series(["a", "b"]).to_numpy(dtype=str)],
)
def test_a_column_of_texts_is_so_many_prompts(series: Any, tmp_path: Path) -> None:
    submit(tmp_path / "a.db", series)
    assert [request["messages"][0]["content"] for _, request, _ in jobs(tmp_path / "a.db")] == [
        *("a", "b")
    ]


def test_a_table_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"reading a table needs pyarrow: pip install"):
        submit(tmp_path / "a.db", pl.DataFrame({"prompt": ["a"]}))
