"""A disk that fills up at any time: the drain ends clearly, and goes on once there is room."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlite_utils import Database

from helpers.drained import ONE, TWO, Notes, Site
from mh_batch.jobs.errors import BadLine, EnvironmentFault, StoreUnusable
from mh_batch.store.connection import open_store
from mh_batch.worker.submission.rejects import Rejects

pytestmark = pytest.mark.anyio

ATTEMPTS = "select job_id, turn, attempt, verdict from attempts order by id"
WHOLE = [(1, 1, 1, "accept"), (1, 2, 1, "accept"), (2, 1, 1, "accept")]
FILES_AN_ATTEMPT = 7
MANY = 60


@contextmanager
def room_given_back() -> Iterator[None]:
    """Undo at the end of the block what `take_room` did in it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def take_room(_: object = None) -> None:
    """Have the system take no more than a few bytes of a file, as a disk without room would."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))


def files(site: Site) -> list[Path]:
    """The files of all attempts."""
    return [path for path in (site.folder / "logs").glob("*/*/*") if path.is_file()]


def half(site: Site) -> list[Path]:
    return [path for path in files(site) if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ("all", "the artifacts of an attempt cannot be written: File too large; free some space"),
        ("off", "the disk reports an error; check the disk and its free space"),
    ],
)
async def test_a_disk_without_room_for_what_an_attempt_brought_ends_the_drain(
    keep: str, said: str, site: Site
) -> None:
    site.submit(TWO, ONE)
    site.notes.on_tokens = take_room
    with room_given_back(), pytest.raises(EnvironmentFault, match=said) as caught:
        await site.drain(["slow"], artifacts=keep)
    assert caught.value.exit_code == 3
    assert site.rows(ATTEMPTS) == []
    assert half(site) == []
    site.notes = Notes(io.StringIO())
    assert (await site.drain()).exit_code == 0
    assert site.rows(ATTEMPTS) == WHOLE
    assert site.sound()
    assert len(files(site)) == FILES_AN_ATTEMPT * len(WHOLE)
    assert half(site) == []


@pytest.mark.parametrize("pages", [0, 1, 3, 6])
async def test_a_database_that_cannot_grow_keeps_what_was_recorded_and_nothing_half(
    pages: int, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(path: Path) -> Database:
        db = open_store(path)
        held = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {held + pages}")
        return db

    site.submit(*[ONE] * MANY)
    with monkeypatch.context() as patch:
        patch.setattr("mh_batch.worker.runtime.store_thread.open_store", cramped)
        with pytest.raises(StoreUnusable, match="the disk is full; free some space"):
            await site.drain(artifacts="off")
    attempts = "select count(*) from attempts"
    ((recorded,),) = site.rows(attempts)
    assert 0 <= int(str(recorded)) < MANY
    # an attempt without its turn or without its timings would be half an attempt
    for table in ("turns", "timings", "parses"):
        assert site.rows(f"select count(*) from {table}") == [(recorded,)]
    assert site.rows("select count(*) from jobs where status = 'done'") == [(recorded,)]
    assert site.sound()
    assert (await site.drain(artifacts="off")).exit_code == 0
    assert site.rows(attempts) == [(MANY,)]
    assert site.sound()


def test_lines_left_out_that_no_disk_takes_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl.rejected.jsonl"

    def leave_out() -> None:
        with room_given_back(), Rejects(path) as rejects:
            take_room()
            rejects.add(BadLine(1, "why"), b"x" * 50)
            rejects.keep()

    with pytest.raises(EnvironmentFault, match="File too large"):
        leave_out()
    assert not [*tmp_path.iterdir()]
