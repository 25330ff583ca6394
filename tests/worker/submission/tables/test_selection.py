"""Which rows are taken, how often, and by which names."""

import io
import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from helpers.landed import land
from mh_batch.jobs.errors import AlreadySubmitted, BadLines
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.worker.submission.submission import submit_stream
from mh_batch.worker.submission.tables.options import RowOptions
from mh_batch.worker.submission.tables.rows import Row
from mh_batch.worker.submission.tables.selection import chosen
from mh_batch.worker.submission.tables.source import Source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [{"prompt": f"ask {n}", "task_id": f"t/{n}"} for n in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "not a line\n")
    return path


def test_a_limit_takes_the_first_rows_and_reads_no_further(file: Path) -> None:
    jobs = land(file, limit=3)
    assert [job.prompt for job in jobs] == ["ask 0", "ask 1", "ask 2"]


def test_a_sample_keeps_the_order_and_the_numbers_of_the_file(file: Path) -> None:
    jobs = land(file, limit=20, sample=5, seed=1)
    numbers = [job.number for job in jobs]
    assert len(set(numbers)) == 5
    assert numbers == sorted(numbers)
    assert [job.prompt for job in jobs] == [f"ask {n - 1}" for n in numbers]
    assert [job.number for job in land(file, limit=20, sample=5, seed=2)] != numbers


class Listed(list[Row]):
    """Rows that are not read from a file."""

    columns = None
    bytes_read = 0


def test_each_row_has_the_same_chance_in_a_sample() -> None:
    rows = Listed(Row(n) for n in range(10))
    drawn: Counter[int] = Counter()
    for seed in range(2000):
        options = RowOptions(sample=3, seed=seed)
        drawn.update(row.number for row in chosen(rows, options))
    # six standard deviations of a binomial with 2,000 draws of 0.3
    assert all(abs(drawn[n] - 600) < 123 for n in range(10))


def test_a_sample_larger_than_the_file_is_the_file(file: Path) -> None:
    assert len(land(file, limit=4, sample=9)) == 4


def test_a_repeated_row_has_its_number_behind_the_id(file: Path) -> None:
    jobs = land(file, limit=2, repeat=3)
    assert [job.custom_id for job in jobs] == [f"t/{n}-{i}" for n in (0, 1) for i in (1, 2, 3)]
    assert {job.number for job in jobs} == {1, 2}
    (job,) = land(file, limit=1, repeat=1, n=2)
    assert (job.custom_id, job.n) == ("t/0", 2)


def test_an_id_that_the_number_makes_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"prompt": "x", "custom_id": "i" * 511}) + "\n")
    with pytest.raises(BadLines, match="custom_id: too long"):
        land(path, repeat=2)


def test_standard_input_is_read_row_by_row_too(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    lines = b'{"q": "a"}\n\n{"q": "b"}\n'
    options = RowOptions.parse(prompt="{{q}}!")
    with closing(open_store(tmp_path / "a.db")) as db:
        batch = NewBatch("stdin", "-", Settings())
        assert submit_stream(db, Source(Pipe(lines), options), batch).jobs == 2
        with pytest.raises(AlreadySubmitted):
            submit_stream(db, Source(Pipe(lines), options), batch)


def test_the_same_file_with_other_options_is_another_batch(file: Path) -> None:
    land(file, limit=2)
    land(file, limit=3)
    land(file, limit=3, system="S")
    land(file, limit=3, n=2)
    with pytest.raises(AlreadySubmitted):
        land(file, limit=3)


def test_defaults_are_for_lines_that_do_not_name_them(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    asked = [{"role": "user", "content": "x"}]
    lines: list[object] = [
        {"prompt": "a"},
        {"prompt": "b", "system": "own", "n": 1},
        {"body": {"messages": asked}},
        {"body": {"messages": [{"role": "system", "content": "own"}, *asked], "n": 3}},
        {"turns": ["c"], "n": None},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    jobs = land(path, system="given", n=2)
    assert [job.asked[0] for job in jobs] == [
        *(("system", "given"), ("system", "own"), ("system", "given"), ("system", "own")),
        ("system", "given"),
    ]
    assert [job.n for job in jobs] == [2, 1, 2, 3, 2]
