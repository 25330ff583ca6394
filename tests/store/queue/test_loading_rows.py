"""Ids that a file brings along name its jobs, unless two of them are the same."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import line
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.store.queue import loading_rows, submit
from mh_batch.store.queue.submit import Submission


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_rows, "STEP", 3)
    monkeypatch.setattr(submit, "CHUNK_ROWS", 4)


def owned(ids: Sequence[str | None]) -> list[JobLine]:
    return [replace(line(n), own_id=own) for n, own in enumerate(ids, start=1)]


def landed(folder: Path, jobs: Sequence[JobLine]) -> tuple[list[str], tuple[int, int] | None]:
    """Submit jobs one chunk after the other; return their names, and lines with the same id."""
    db = open_store(folder / "mh-batch.db")
    with Submission.begin(db, NewBatch("b", "b.jsonl", Settings())) as submission:
        for begin in range(0, len(jobs), 4):
            assert submission.add(jobs[begin : begin + 4]) == []
        assert submission.publish("a") == len(jobs)
    names = _names(db)
    db.close()
    return names, submission.repeated_ids


def _names(db: Database) -> list[str]:
    return [
        row[0] for row in db.execute("SELECT custom_id FROM jobs ORDER BY position, id").fetchall()
    ]


def test_ids_without_a_repetition_name_the_jobs(tmp_path: Path) -> None:
    ids = [f"q{n}" for n in range(10)]
    assert landed(tmp_path, owned(ids)) == (ids, None)


@pytest.mark.parametrize("ids", ["aabcdefghi", "abcdefgahi", "abcdefghia"])
def test_a_repeated_id_names_all_jobs_after_their_lines(ids: str, tmp_path: Path) -> None:
    again = next(n for n, own in enumerate(ids, start=1) if own in ids[: n - 1])
    numbered = [f"line-{n}" for n in range(1, 11)]
    assert landed(tmp_path, owned(ids)) == (numbered, (1, again))


def test_a_line_without_an_id_names_all_jobs_after_their_lines(tmp_path: Path) -> None:
    for folder, missing in (("first", 0), ("later", 6)):
        ids = [None if n == missing else f"q{n}" for n in range(10)]
        (tmp_path / folder).mkdir()
        numbered = [f"line-{n}" for n in range(1, 11)]
        assert landed(tmp_path / folder, owned(ids)) == (numbered, None)


def test_ids_that_look_like_the_numbers_of_other_lines_are_no_hindrance(tmp_path: Path) -> None:
    ids = [f"line-{n}" for n in range(9, 0, -1)]
    assert landed(tmp_path, owned([*ids, "line-3"]))[0] == [f"line-{n}" for n in range(1, 11)]


def test_copies_keep_their_numbers(tmp_path: Path) -> None:
    jobs = [
        replace(line(n), custom_id=f"line-{n}-{copy}", own_id=f"{own}-{copy}", copy=copy)
        for n, own in enumerate(["a-1", "b2", "c", "b2"], start=1)
        for copy in range(1, 13)
    ]
    names, repeated = landed(tmp_path, jobs)
    assert names == [job.custom_id for job in jobs]
    assert repeated == (2, 4)


def test_a_custom_id_of_a_line_is_still_refused_where_it_is_there_twice(tmp_path: Path) -> None:
    db = open_store(tmp_path / "mh-batch.db")
    named = [line(6, "x"), line(7, "x")]
    with Submission.begin(db, NewBatch("b", "b.jsonl", Settings())) as submission:
        bad = submission.add([*owned(["a", "b", "c", "d", "b"]), *named])
        assert [(b.number, b.reason) for b in bad] == [
            (7, "custom_id: 'x' is already that of line 6")
        ]
        submission.publish("a")
    assert _names(db) == [*(f"line-{n}" for n in range(1, 6)), "x"]
    db.close()
