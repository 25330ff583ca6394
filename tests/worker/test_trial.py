"""`submit --check --trial N`: some lines are answered, and nothing of that is kept."""

import asyncio
import re
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, write_lines
from helpers.forks import Forks
from mh_batch.jobs.errors import Interrupted
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.worker import trial
from mh_batch.worker.options import WorkerSettings
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.submission.dry_run import dry_run


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks) -> Path:
    """The folder of temporary files."""
    forks.socket()  # what it is served by has files of its own
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_trial_of_a_table_shows_answers_and_estimates_by_them_and_keeps_nothing(
    tmp_path: Path, temporary: Path
) -> None:
    rows = ["question", *(f"What is {n} + 3?" for n in range(9))]
    (tmp_path / "sums.csv").write_text("\n".join(rows))
    before = {*tmp_path.iterdir()}
    asked = ("--map", "prompt=question", "--max-tokens", "60", "--model", "demo")
    # a configuration for several at once is for the night
    (tmp_path / "mh-batch.toml").write_text("parallel = 4\n")
    done = mh_batch(tmp_path, "submit", "sums.csv", "--check", "--trial", "2", *asked)
    said = done.stdout.splitlines()
    assert said[2:5] == [
        "2 lines answered on trial, nothing was kept:",
        "  sums.csv:2: done: 0 + 3 = 3",
        "  sums.csv:10: done: 8 + 3 = 11",
    ]
    assert re.match(r"demo: about 0:\d\d, if it goes like the 2 attempts of the trial: 9 ", said[5])
    assert "conversations at once" not in said[5]
    assert re.match(r"  at most 0:\d\d at that speed, .* \(540 tokens in all\)$", said[6])
    assert {*tmp_path.iterdir()} - before == {tmp_path / "mh-batch.toml"}
    assert [*temporary.iterdir()] == []


def test_a_trial_is_for_a_check(tmp_path: Path) -> None:
    write_lines(tmp_path, [{"prompt": "x"}])
    refused = mh_batch(tmp_path, "submit", "convos.jsonl", "--trial", "3", code=2)
    assert "--trial: only with --check" in refused.stderr
    assert not (tmp_path / "mh-batch.db").exists()


def test_a_trial_that_is_interrupted_ends_at_once_and_leaves_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path, [{"prompt": "Count from 1 to 300.", "max_tokens": 2000}])
    batch = NewBatch("convos", str(path), Settings(), "demo")
    interrupted: list[int] = []
    show: Callable[..., None] = PlainDisplay.tokens

    def interrupt(self: PlainDisplay, *args: object) -> None:
        show(self, *args)
        if not interrupted:
            interrupted.append(1)
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)

    monkeypatch.setattr(PlainDisplay, "tokens", interrupt)
    sample = dry_run(batch, tmp_path / "nowhere.db", trial=1).sample
    with pytest.raises(Interrupted, match="the trial was stopped; nothing of it is kept"):
        trial.run_trial(batch, sample, WorkerSettings(), "demo")
    assert interrupted
    assert [*temporary.iterdir()] == []
    assert not (tmp_path / "nowhere.db").exists()


def test_a_line_that_cannot_be_done_is_passed_over_by_a_trial(tmp_path: Path) -> None:
    long = {"prompt": "word " * 600, "max_context_tokens": 256}
    path = write_lines(tmp_path, [long, {"prompt": "b"}, {"prompt": "c"}, {"prompt": "d"}])
    batch = NewBatch("convos", str(path), Settings(), "demo")
    found = dry_run(batch, tmp_path / "nowhere.db", trial=2)
    assert [line.number for line in found.sample] == [2, 4]
