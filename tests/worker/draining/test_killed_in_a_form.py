"""A worker that is killed in the middle of an answer in a form changes no result."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers.command_line import mh_batch, rows, write_lines
from helpers.paths import HELPERS
from soak.content import Content, content, differences

# so many tokens that some are reported before the end
BITS = {"type": "array", "items": {"enum": [0, 1]}, "minItems": 300, "maxItems": 300}
LINE: dict[str, object] = {
    "custom_id": "bits",
    "prompt": "Describe a person.",
    "max_tokens": 900,
    "structured_outputs": {"json": BITS},
}


def submitted(folder: Path) -> Path:
    """A folder with the conversation in its queue."""
    folder.mkdir()
    write_lines(folder, [LINE])
    mh_batch(folder, "submit", "convos.jsonl", "--set", "seed=3")
    return folder


def made(folder: Path) -> Content:
    """What is in the database, but for the day of its batch."""
    found = content(folder)
    return {table: rows for table, rows in found.items() if table not in ("batches", "jobs")}


def kill_after_some_tokens(folder: Path) -> None:
    """Kill a worker once it has reported tokens of its first answer."""
    command = [sys.executable, str(HELPERS / "watched_worker.py"), "mh-batch.db"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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
    tmp_path: Path,
) -> None:
    undisturbed, killed = submitted(tmp_path / "undisturbed"), submitted(tmp_path / "killed")
    mh_batch(undisturbed, "work", "--model", "demo")
    kill_after_some_tokens(killed)
    assert rows(killed, "SELECT count(*) FROM attempts") == [(0,)]
    mh_batch(killed, "work", "--model", "demo")
    answered = "SELECT status, json_array_length(parsed) FROM jobs JOIN turns ON job_id = jobs.id"
    assert rows(killed, answered) == [("done", 300)]
    assert differences(made(undisturbed), made(killed)) == []
