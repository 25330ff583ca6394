"""What several conversations at once result in on the demo model, whatever order and deaths."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.forks import Forks
from helpers.paths import HELPERS
from mh_batch.engine.model.load import load
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.store.connection import open_store
from mh_batch.store.selftests import record_selftest
from mh_batch.worker.slots_key import selftest_key
from soak.content import Content, content, differences

CONVERSATIONS: list[dict[str, object]] = [
    {"custom_id": "count", "prompt": "Count from 1 to 5.", "max_tokens": 16},
    {"custom_id": "sums", "turns": ["What is 1 + 2?", "Now add 5."], "temperature": 1.0},
    {"custom_id": "think", "prompt": "Think for a long time about rivers.", "max_tokens": 12},
    {"custom_id": "both", "prompt": "Hello", "n": 2, "temperature": 1.2, "max_tokens": 24},
]
SETTINGS = ("--set", "max_attempts=2", "--set", "seed=3", "--set", "max_tokens=48")
SLOTS = 4
WATCHED = HELPERS / "watched_worker.py"


def submitted(folder: Path, lines: Sequence[dict[str, object]] = CONVERSATIONS) -> Path:
    """A folder with conversations in its queue."""
    folder.mkdir()
    write_lines(folder, lines)
    mh_batch(folder, "submit", "convos.jsonl", *SETTINGS)
    return folder


def drained(folder: Path) -> Path:
    """The folder, with all that was queued drained."""
    mh_batch(folder, "work", "--model", "demo", "--parallel", str(SLOTS), code=None)
    return folder


def with_verdict(folder: Path) -> Path:
    """The folder, with a verdict for the demo model: the self-test has tests of its own."""
    key = selftest_key(load("demo").info, SLOTS)
    with closing(open_store(folder / "mh-batch.db")) as db:
        record_selftest(db, key, "demo", SelftestVerdict(passed=True))
    return folder


def made(folder: Path) -> Content:
    """What is in the database, but for the day and the position of jobs."""
    found = content(folder)
    return {table: rows for table, rows in found.items() if table not in ("batches", "jobs")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the conversations were drained in one go."""
    folder = drained(with_verdict(submitted(tmp_path_factory.mktemp("drain") / "undisturbed")))
    # the verdict was taken for that of this machine and this model
    assert rows(folder, "SELECT count(*) FROM selftests") == [(1,)]
    return folder


def test_several_were_with_the_model_at_once(undisturbed: Path) -> None:
    ((most,),) = rows(undisturbed, "SELECT max(rows) FROM timings")
    assert most > SLOTS - 1
    assert rows(undisturbed, "SELECT DISTINCT parallel FROM timings") == [(SLOTS,)]
    # retries, second parts and rescues are among what is compared
    marks = rows(undisturbed, "SELECT DISTINCT continues, rescued FROM attempts")
    assert {(0, 0), (1, 0), (0, 1)} <= set(marks)


def test_jobs_in_another_order_have_the_same_results(undisturbed: Path, tmp_path: Path) -> None:
    folder = drained(with_verdict(submitted(tmp_path / "other", CONVERSATIONS[::-1])))
    assert differences(made(undisturbed), made(folder)) == []


def kill_at(forks: Forks, folder: Path, event: Callable[[list[str]], bool]) -> None:
    """Kill a worker at the first event of a kind."""
    command = [sys.executable, str(WATCHED), "mh-batch.db", str(SLOTS)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    signal_at(forks.command(command, folder, env), folder, event, signal.SIGKILL)


def stop_at(forks: Forks, folder: Path, event: Callable[[list[str]], bool]) -> None:
    """Ask a worker to stop at the first event of a kind."""
    # it gets the signal itself: only its model process is a fork
    command = [sys.executable, str(WATCHED), "mh-batch.db", str(SLOTS), forks.socket()]
    signal_at(command, folder, event, signal.SIGINT)


def signal_at(
    command: Sequence[str], folder: Path, event: Callable[[list[str]], bool], number: signal.Signals
) -> None:
    """Send a signal to a worker at the first event of a kind, and wait for its end."""
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(event(line.split()) for line in process.stdout)
        process.send_signal(number)
        process.stdout.read()


def test_a_worker_that_is_killed_changes_no_result(
    undisturbed: Path, tmp_path: Path, forks: Forks
) -> None:
    folder = with_verdict(submitted(tmp_path / "killed"))
    kill_at(forks, folder, lambda event: event[0] == "tokens" and int(event[1]) > 8)
    kill_at(forks, folder, lambda event: event[0] == "ended")
    drained(folder)
    assert rows(folder, "SELECT count(*) FROM runs") == [(3,)]
    assert differences(made(undisturbed), made(folder)) == []


def test_a_stop_between_two_attempts_changes_no_result(
    undisturbed: Path, tmp_path: Path, forks: Forks
) -> None:
    folder = with_verdict(submitted(tmp_path / "stopped"))
    stop_at(forks, folder, lambda event: event[0] == "tokens" and int(event[1]) > 8)
    assert rows(folder, "SELECT end_reason FROM runs") == [("stopped",)]
    assert ("queued",) in rows(folder, "SELECT status FROM jobs")
    assert rows(folder, "SELECT count(*) > 0 FROM attempts") == [(1,)]
    drained(folder)
    assert differences(made(undisturbed), made(folder)) == []
