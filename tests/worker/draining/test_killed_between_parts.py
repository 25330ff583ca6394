"""A worker that is killed between the two parts of an answer changes no result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.forks import Forks
from soak.content import Content, content, differences

# kills its own process once so many attempts are on record
KILLED_WORKER = """
import os, signal, sys
from mh_batch.store import queue
from mh_batch.worker.cli import main
record, left = queue.record, int(sys.argv.pop(1))
def record_and_die(*arguments):
    global left
    attempt = record(*arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt
queue.record = record_and_die
main()
"""
CONVERSATIONS: list[dict[str, object]] = [
    {"custom_id": "count", "prompt": "Count from 1 to 5.", "max_tokens": 22},
    {"custom_id": "talk", "turns": ["Hello", "Hello"], "max_tokens": 18},
    {"custom_id": "think", "prompt": "Think for a long time about rivers.", "max_tokens": 12},
]
SETTINGS = ("--set", "max_attempts=2", "--set", "seed=3")


def submitted(folder: Path) -> Path:
    """A folder with the conversations in its queue."""
    folder.mkdir()
    write_lines(folder, CONVERSATIONS)
    mh_batch(folder, "submit", "convos.jsonl", *SETTINGS)
    return folder


def dated(found: Content) -> Content:
    """The content of a database, but for the day of its batch."""
    return {table: made for table, made in found.items() if table not in ("batches", "jobs")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the conversations were drained at once."""
    folder = submitted(tmp_path_factory.mktemp("drain") / "undisturbed")
    mh_batch(folder, "work", "--model", "demo")
    return folder


def test_so_does_one_that_was_killed_between_the_two_parts_of_an_answer(
    undisturbed: Path, tmp_path: Path, forks: Forks
) -> None:
    marks = "SELECT continues, rescued FROM attempts ORDER BY id"
    parts = rows(undisturbed, marks)
    assert {(0, 0), (1, 0), (0, 1)} <= set(parts)
    folder = submitted(tmp_path / "killed")
    killed = 0
    # a kill wherever the next attempt goes on from the last, or is rescued from it
    for before, (continues, rescued) in enumerate(parts):
        if not (continues or rescued):
            continue
        kill_after(forks, folder, before - killed)
        killed = before
    mh_batch(folder, "work", "--model", "demo")
    assert rows(folder, "SELECT count(*) FROM runs")[0][0] > 3
    assert differences(dated(content(undisturbed)), dated(content(folder))) == []


def kill_after(forks: Forks, folder: Path, attempts: int) -> None:
    """Have a worker die right after it has recorded so many more attempts."""
    command = [sys.executable, "-c", KILLED_WORKER, str(attempts), "work", "--model", "demo"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    started = forks.command(command, folder, env)
    done = subprocess.run(started, cwd=folder, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
