"""One worker at a time, and a dead one never in the way."""

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from helpers.store_samples import start
from mh_batch.jobs.errors import StoreUnusable, WorkerRunning
from mh_batch.store.connection import immediate, open_reader, open_store
from mh_batch.store.lock import held_here, holder, worker_lock

HOLDER = """
import sys
from pathlib import Path
from mh_batch.store.lock import worker_lock
with worker_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start_holder(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that holds the lock until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_one_worker_at_a_time_drains_a_database(path: Path) -> None:
    first = start_holder(path)
    with pytest.raises(WorkerRunning, match=f"pid {first.pid}"), worker_lock(path):
        pass
    first.communicate(b"\n", timeout=60)
    with worker_lock(path):
        assert holder(path) == os.getpid()


def test_the_lock_of_a_killed_worker_is_free_at_once(path: Path) -> None:
    first = start_holder(path)
    first.kill()
    first.communicate(timeout=60)
    with worker_lock(path):
        assert held_here(path)
    assert not held_here(path)


def test_a_second_worker_in_the_same_process_is_refused_too(path: Path) -> None:
    refused = pytest.raises(WorkerRunning, match=f"pid {os.getpid()}")
    with worker_lock(path), refused, worker_lock(path):
        pass


def test_the_lock_is_freed_when_the_block_raises(path: Path) -> None:
    with pytest.raises(RuntimeError), worker_lock(path):
        raise RuntimeError
    with worker_lock(path):
        pass


def test_the_lock_file_is_never_world_writable(path: Path) -> None:
    before = os.umask(0)
    try:
        with worker_lock(path):
            mode = path.with_name(path.name + ".lock").stat().st_mode
    finally:
        os.umask(before)
    assert not mode & stat.S_IWOTH


def test_a_folder_that_takes_no_lock_is_an_error_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "mh-batch.db.lock").mkdir()
    with (
        pytest.raises(StoreUnusable, match="cannot be locked"),
        worker_lock(tmp_path / "mh-batch.db"),
    ):
        pass


def test_a_worker_whose_lock_file_is_gone_writes_nothing_more(path: Path) -> None:
    lock = path.with_name(path.name + ".lock")
    with worker_lock(path), closing(open_store(path)) as db:
        start(db)
        lock.unlink()
        with pytest.raises(StoreUnusable, match="the lock of this worker was deleted"):
            start(db)
        # as a second worker would
        lock.touch()
        with pytest.raises(StoreUnusable, match="the lock of this worker was deleted"):
            start(db)
    with worker_lock(path), closing(open_store(path)) as db:
        assert start(db) == 2


def test_who_holds_no_lock_needs_none(path: Path) -> None:
    with closing(open_store(path)) as db:
        path.with_name(path.name + ".lock").unlink()
        assert start(db) == 1


@pytest.mark.parametrize("replacement", [None, b"", b"another file"])
def test_a_database_that_is_gone_takes_nothing_more(replacement: bytes | None, path: Path) -> None:
    with closing(open_store(path)) as db:
        start(db)
        path.rename(path.with_name("moved.db"))
        if replacement is not None:
            path.write_bytes(replacement)
        with pytest.raises(StoreUnusable, match="deleted, moved or replaced"):
            start(db)


def test_a_database_that_goes_within_a_transaction_is_not_told_as_written(path: Path) -> None:
    moved = path.with_name("moved.db")

    def begin_and_move(db: Database) -> None:
        with immediate(db):
            db.execute("INSERT INTO runs (started_at, settings, versions) VALUES ('', '{}', '{}')")
            path.rename(moved)

    with closing(open_store(path)) as db:
        with pytest.raises(StoreUnusable, match="deleted, moved or replaced"):
            begin_and_move(db)
        moved.rename(path)
        assert start(db) == 1


def test_a_database_of_two_names_is_refused_for_writing(path: Path) -> None:
    open_store(path).close()
    other = path.with_name("other.db")
    other.hardlink_to(path)
    for name in (path, other):
        with pytest.raises(StoreUnusable, match=r"2 names \(hard links\).*cp"):
            open_store(name)
    with closing(open_reader(other)) as reader:
        assert reader["runs"].count == 0
    other.unlink()
    open_store(path).close()
