"""What the worker's tests share: an empty queue, and a night that was drained once."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from anyio.abc import TaskGroup
from filelock import FileLock

from helpers.command_line import mh_batch
from helpers.drained import Site
from helpers.paths import EXAMPLE
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import EndReason

HOSTILE = "What is 2 + 3? <script>alert('x')</script> \x1b[31mred\x07 & \u202eback"
TROUBLE: list[dict[str, object]] = [
    {"custom_id": "hostile", "prompt": HOSTILE},
    {"custom_id": "count", "prompt": "Count from 1 to 200.", "max_tokens": 40, "max_attempts": 1},
    {
        "custom_id": "long",
        "turns": [f"What is {n} + 9?" for n in range(11, 15)],
        "history_tokens": 40,
    },
    {"custom_id": "too-long", "prompt": "word " * 600, "max_context_tokens": 256},
]
# a death of the model cannot be had on demand without a hook in the program
CRASH = """
INSERT INTO crashes
    (job_id, choice, turn, step, attempt, run_id, at, phase, signal, exit_code, stderr_tail)
SELECT id, 0, 1, 0, 1, 1, '2026-01-01T03:00:00.000Z', 'decode', 6, NULL, 'command buffer <lost>'
FROM jobs WHERE custom_id = 'count'
"""


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database holds batch 1 (`example`, all done) and batch 2 (`trouble`).

    Of `trouble` two jobs are done, one of them without its oldest turns, one is incomplete though
    it went on once, one failed. A death of the model is on record.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # all processes of these tests: one of them drains, and each has a copy
        shared = shared.parent
    drained = shared / "drained-night"
    with FileLock(shared / "drained-night.lock"):
        if not drained.exists():
            drain(shared / "night-to-drain").rename(drained)
    return shutil.copytree(drained, tmp_path_factory.mktemp("night") / "night")


def drain(folder: Path) -> Path:
    """Drain both batches in a new folder, and put a death on record."""
    folder.mkdir()
    lines = "".join(json.dumps(line) + "\n" for line in TROUBLE)
    (folder / "trouble.jsonl").write_text(lines)
    mh_batch(folder, "submit", str(EXAMPLE), "trouble.jsonl", "--set", "max_tokens=64")
    mh_batch(folder, "work", "--model", "demo", code=1)
    db = sqlite3.connect(folder / "mh-batch.db")
    with db:
        db.execute(CRASH)
    db.close()
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A folder with an empty queue."""
    return Site(tmp_path)


@pytest.fixture
def drains(monkeypatch: pytest.MonkeyPatch) -> list[Drain]:
    """The drains that have begun, so that a test gets at them as the signal handler does."""
    begun: list[Drain] = []
    original = Drain.run

    async def run(self: Drain, tasks: TaskGroup) -> EndReason:
        begun.append(self)
        return await original(self, tasks)

    monkeypatch.setattr(Drain, "run", run)
    return begun
