"""One worker at a time, and a dead one never in the way."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mh_batch.jobs.errors import StoreUnusable, WorkerRunning
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


def test_a_second_worker_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    first = start_holder(path)
    with pytest.raises(WorkerRunning, match=f"pid {first.pid}"), worker_lock(path):
        pass
    first.communicate(b"\n")
    with worker_lock(path):
        assert holder(path) == os.getpid()


def test_the_lock_of_a_killed_worker_is_free_at_once(path: Path) -> None:
    first = start_holder(path)
    first.kill()
    first.communicate()
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
