"""Sixty MT-Bench conversations, several at once, killed again and again: the same answers."""

import csv
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers.command_line import mh_batch, rows
from helpers.paths import CORPORA, HELPERS
from soak.content import content, differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

MT_BENCH = CORPORA / "mt_bench"
KILLS = 40
LIMIT_SECONDS = 60
SETTINGS = ("--set", "max_tokens=24", "--set", "max_attempts=2", "--set", "seed=7")
COMPARED = ("attempts", "turns", "parses", "channels")
RECORDED = """
SELECT j.custom_id, a.choice, a.turn, a.step, a.attempt, a.verdict, a.stop_reason, hex(a.tokens)
FROM attempts AS a JOIN jobs AS j ON j.id = a.job_id
ORDER BY j.position, a.choice, a.turn, a.step, a.attempt
"""


def submit(folder: Path, *arguments: str) -> Path:
    """Queue the conversations in a new folder."""
    folder.mkdir()
    questions = str(MT_BENCH / "questions.jsonl")
    mh_batch(folder, "submit", questions, "--name", "mt", "--model", "demo", *SETTINGS, *arguments)
    return folder


def drain(folder: Path, parallel: int, kills: Sequence[int] = ()) -> Path:
    """Drain a folder; kill the worker or its model in turn, after so many of its events each."""
    for number, after in enumerate(kills):
        worker = start(folder, parallel)
        assert worker.stdout is not None
        for _ in range(after):
            if not worker.stdout.readline():
                break
        if worker.poll() is None:
            strike(worker, model=bool(number % 2))
        worker.stdout.close()
        worker.wait(LIMIT_SECONDS)
    worker = start(folder, parallel)
    assert worker.stdout is not None
    *_, last = worker.stdout
    assert last == "end queue_empty\n"
    assert worker.wait(LIMIT_SECONDS) == 0
    return folder


def start(folder: Path, parallel: int) -> subprocess.Popen[str]:
    """Start a worker that prints its events."""
    command = (
        sys.executable,
        "-P",
        str(HELPERS / "watched_worker.py"),
        str(folder / "mh-batch.db"),
    )
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            [*command, str(parallel)], stdout=subprocess.PIPE, stderr=said, text=True
        )


def strike(worker: subprocess.Popen[str], *, model: bool) -> None:
    """Kill the worker, or its model process once and the worker a few events later."""
    if model:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(worker.pid).children():
                child.kill()
        assert worker.stdout is not None
        for _ in range(5):
            worker.stdout.readline()
    worker.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drain(submit(tmp_path_factory.mktemp("mt") / "undisturbed"), 8)


@pytest.mark.parametrize("order", ["submission", "prefix"])
def test_forty_kills_among_eight_conversations_change_no_answer(
    undisturbed: Path, tmp_path: Path, order: str
) -> None:
    chance = random.Random(order)
    kills = [chance.randrange(1, 80) for _ in range(KILLS)]
    night = drain(submit(tmp_path / "night", "--order", order), 8, kills)
    expected, found = content(undisturbed), content(night)
    told = [
        line
        for table in COMPARED
        for line in differences({table: expected[table]}, {table: found[table]})
    ]
    crashes = rows(night, "SELECT count(*), count(DISTINCT at), sum(alone) FROM crashes")
    runs = rows(night, "SELECT count(*), sum(end_reason IS NULL) FROM runs")
    print(f"\n{order}: {len(told)} differences; crashes {crashes}, runs and killed runs {runs}")
    assert told == []
    assert len(found["attempts"]) == len(expected["attempts"]) > 120


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="the last bits of a logit depend on the processor",
)
def test_one_conversation_at_a_time_answers_as_it_did_before_there_were_slots(
    tmp_path: Path,
) -> None:
    night = drain(submit(tmp_path / "night"), 1)
    with (MT_BENCH / "answers_one_at_a_time.csv").open(newline="") as file:
        _, *recorded = csv.reader(file)
    assert [[str(value) for value in row] for row in rows(night, RECORDED)] == recorded
