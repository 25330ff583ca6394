"""Somebody reads all night long: the worker goes on, and the disk comes back once they leave."""

from pathlib import Path

import msgspec
import pytest
from sqlite_utils import Database

from helpers.store_samples import DONE, attempt, claim, generation, lines, start, submit, turn
from mh_batch.store import queue
from mh_batch.store.connection import open_reader, snapshot

ATTEMPT_BYTES = 160_000
"""What an ordinary attempt may add to a log that nobody can empty: some thirty pages, twice over.

SQLite keeps whole pages for a reader, so that this hardly depends on how long an answer is.
"""
SIZE_LIMIT = 67_108_864


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mh-batch.db"


def log_bytes(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


def answer(db: Database, run_id: int, text: str) -> None:
    """Play the next job to its end, with an answer of so much text."""
    job = claim(db, run_id)
    made = msgspec.structs.replace(attempt(), generation=generation(tuple(range(600)), text))
    queue.record(db, job.id, run_id, made, turn(), DONE)


def test_under_a_reader_that_stays_the_log_grows_by_a_few_pages_an_attempt(
    path: Path, db: Database
) -> None:
    submit(db, lines(200))
    run_id = start(db)
    reader = open_reader(path)
    with snapshot(reader):
        assert reader.execute("SELECT count(*) FROM attempts").fetchone()[0] == 0
        before = log_bytes(path)
        for _ in range(200):
            answer(db, run_id, "word " * 600)
        grown = (log_bytes(path) - before) / 200
        assert reader.execute("SELECT count(*) FROM attempts").fetchone()[0] == 0
    print(f"{grown / 1000:.0f} kB of log an attempt while somebody reads")
    assert 4096 < grown < ATTEMPT_BYTES
    assert reader.execute("SELECT count(*) FROM attempts").fetchone()[0] == 200
    reader.close()


def test_a_log_that_a_reader_has_let_grow_is_cut_by_the_next_write_after_it_left(
    path: Path, db: Database
) -> None:
    submit(db, lines(60))
    run_id = start(db)
    reader = open_reader(path)
    with snapshot(reader):
        reader.execute("SELECT count(*) FROM attempts").fetchone()
        while log_bytes(path) < 1.2 * SIZE_LIMIT:
            answer(db, run_id, "word " * 400_000)
    # one write to take the log over into the database, one to begin the log anew
    answer(db, run_id, "four")
    answer(db, run_id, "four")
    assert log_bytes(path) <= SIZE_LIMIT
    for _ in range(10):
        answer(db, run_id, "word " * 600)
    assert log_bytes(path) <= SIZE_LIMIT
    reader.close()
