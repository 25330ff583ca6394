"""The comparison of two nights sees what is missing, what is twice and what differs."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from helpers.drained import ONE, TWO, Site
from soak.content import content, differences, not_ended, unsound

pytestmark = pytest.mark.anyio

SAME = (
    "UPDATE runs SET id = id + 7",
    "UPDATE attempts SET started_at = '2001', finished_at = '2002'",
    "UPDATE timings SET decode_seconds = 7.0, reused_tokens = 3, rows = 2.5",
    "UPDATE batches SET submitted_at = '2001'",
)
"""What differs from night to night."""

OTHER = (
    ("turns", "UPDATE turns SET final = 'another' WHERE job_id = 1 AND turn = 2"),
    ("turns", "DELETE FROM turns WHERE job_id = 2"),
    ("attempts", "UPDATE attempts SET tokens = x'010000000200000004000000' WHERE id = 1"),
    ("attempts", "UPDATE attempts SET raw = 'another' WHERE id = 3"),
    ("parses", "UPDATE parses SET problems = '[\"truncated\"]' WHERE id = 2"),
    ("parses", "INSERT INTO parses SELECT 99, attempt_id, 1, rung, 1, 0, '[]' FROM parses LIMIT 1"),
    ("channels", "DELETE FROM channels WHERE parse_id = 1 AND position = 1"),
    ("timings", "DELETE FROM timings WHERE attempt_id = 1"),
    ("jobs", "UPDATE jobs SET status = 'failed', error = 'x' WHERE id = 2"),
    ("batches", "UPDATE batches SET completion_tokens = completion_tokens + 1"),
)


@pytest.fixture
async def night(site: Site) -> Path:
    """A folder with a small night."""
    site.submit(TWO, ONE)
    await site.drain()
    return site.folder


def changed(night: Path, sql: str) -> Path:
    """Return a copy of a night with one thing changed."""
    copy = night.with_name("copy")
    shutil.copytree(night, copy)
    with closing(sqlite3.connect(copy / "mh-batch.db")) as db, db:
        db.execute(sql)
    return copy


@pytest.mark.parametrize("sql", SAME)
async def test_times_ids_and_runs_are_no_difference(sql: str, night: Path) -> None:
    assert differences(content(night), content(changed(night, sql))) == []


@pytest.mark.parametrize(("table", "sql"), OTHER)
async def test_whatever_else_differs_is_told(table: str, sql: str, night: Path) -> None:
    found = differences(content(night), content(changed(night, sql)))
    assert {line.split()[0] for line in found} >= {table}


async def test_artifacts_are_compared_by_their_bytes(night: Path) -> None:
    copy = changed(night, SAME[0])
    (copy / "logs" / "1" / "1" / "completion.raw.2.1.txt").write_text("another")
    (copy / "logs" / "1" / "2" / "completion.raw.1.1.txt").unlink()
    assert len(differences(content(night), content(copy))) == 2


async def test_a_night_is_unsound_with_half_a_file_or_a_row_that_refers_to_nothing(
    night: Path,
) -> None:
    assert unsound(night) == []
    copy = changed(night, "DELETE FROM attempts WHERE id = 1")
    (copy / "logs" / "1" / "1" / ".a.txt.partial").touch()
    assert [line.partition(":")[0] for line in unsound(copy)][-1] == "half an artifact"
    assert any(line.startswith("foreign_key_check") for line in unsound(copy))


async def test_what_was_told_as_ended_must_be_so(night: Path) -> None:
    assert not_ended(night, {"line-1", "line-2"}) == []
    copy = changed(night, "UPDATE jobs SET status = 'running' WHERE id = 2")
    assert not_ended(copy, {"line-1", "line-2"}) == ["told as ended, and lost: line-2"]
