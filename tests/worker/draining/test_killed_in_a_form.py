"""A worker that is killed in the middle of an answer in a form changes no result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.forks import Forks
from helpers.native_model import native_model
from helpers.paths import HELPERS
from helpers.small_models import CHATML
from soak.content import Content, content, differences

# so many tokens that some are reported before the end; a small model makes them quickly
BITS = {"type": "array", "items": {"enum": [0, 1]}, "minItems": 300, "maxItems": 300}
LINE: dict[str, object] = {
    "custom_id": "bits",
    "prompt": "Describe a person.",
    "max_tokens": 1200,
    "structured_outputs": {"json": BITS},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of random weights that has room for the answer."""
    return native_model(tmp_path / "model", CHATML, context_tokens=2048)


def submitted(folder: Path, model: Path) -> Path:
    """A folder with the conversation in its queue."""
    folder.mkdir()
    write_lines(folder, [LINE])
    mh_batch(folder, "submit", "convos.jsonl", "--model", str(model), "--set", "seed=3")
    return folder


def made(folder: Path) -> Content:
    """What is in the database, but for the day of its batch."""
    found = content(folder)
    return {table: rows for table, rows in found.items() if table not in ("batches", "jobs")}


def kill_after_some_tokens(forks: Forks, folder: Path) -> None:
    """Kill a worker once it has reported tokens of its first answer."""
    command = [sys.executable, str(HELPERS / "watched_worker.py"), "mh-batch.db"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    with subprocess.Popen(
        forks.command(command, folder, env),
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            word, *rest = line.split()
            assert word not in ("ended", "end"), line
            if word == "tokens" and int(rest[0]) >= 20:
                break
        worker.kill()
    assert worker.returncode == -signal.SIGKILL


def test_killed_in_the_middle_of_an_answer_in_a_form_it_gives_the_same_answer(
    tmp_path: Path, model: Path, forks: Forks
) -> None:
    undisturbed = submitted(tmp_path / "undisturbed", model)
    killed = submitted(tmp_path / "killed", model)
    mh_batch(undisturbed, "work")
    kill_after_some_tokens(forks, killed)
    assert rows(killed, "SELECT count(*) FROM attempts") == [(0,)]
    mh_batch(killed, "work")
    answered = "SELECT status, json_array_length(parsed) FROM jobs JOIN turns ON job_id = jobs.id"
    assert rows(killed, answered) == [("done", 300)]
    assert differences(made(undisturbed), made(killed)) == []
