"""`selftest` as a person sees it: what is printed, what is kept, and how it ends."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import mh_batch, rows, write_lines
from helpers.native_model import native_model
from helpers.paths import HELPERS
from helpers.small_models import CHATML
from mh_batch.worker.commands.doctor_selftest import table
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.selftest import Found, after_restart, run_selftest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(native_model(tmp_path_factory.mktemp("native"), CHATML))


def scripted(folder: Path, script: str) -> tuple[str, ...]:
    path = folder / "script.json"
    path.write_text(script)
    return (sys.executable, str(HELPERS / "scripted_child.py"), str(path))


async def run(folder: Path, model: str, script: str) -> Found:
    logs = folder / "logs"
    logs.mkdir()
    options = DrainOptions(folder / "mh-batch.db", model, logs, parallel=2)
    return await run_selftest(options, model, lambda _: None, scripted(folder, script))


def test_a_sound_model_passes_and_the_worker_tests_it_no_more(tmp_path: Path, model: str) -> None:
    done = mh_batch(tmp_path, "selftest", "--model", model, "--parallel", "4")
    assert len(re.findall(r"^  ok  ", done.stdout, re.MULTILINE)) == 5
    assert "the same seeds after a restart" in done.stdout
    timed = re.findall(r"^ +(\d+) +[\d.,]+ +\d+ MiB", done.stdout, re.MULTILINE)
    assert timed == ["1", "2", "4", "8", "16"]
    assert done.stdout.count("<- recommended") == 1
    kept = rows(tmp_path, "select parallel, passed, recommended from selftests")
    (best,) = re.findall(r"work --parallel (\d+)", done.stdout)
    assert kept == [(4, 1, int(best))]
    write_lines(tmp_path, [{"prompt": "Hi", "max_tokens": 4, "max_attempts": 1}] * 2)
    mh_batch(tmp_path, "submit", "convos.jsonl")
    worked = mh_batch(tmp_path, "work", "--model", model, "--parallel", "4", code=None)
    assert "testing" not in worked.stderr
    assert rows(tmp_path, "select count(*) from selftests") == [(1,)]
    assert rows(tmp_path, "select distinct parallel from timings") == [(4,)]


def test_the_worker_tests_a_model_by_itself(tmp_path: Path, model: str) -> None:
    write_lines(tmp_path, [{"prompt": "Hi", "max_tokens": 4, "max_attempts": 1}])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    done = mh_batch(tmp_path, "work", "--model", model, "--parallel", "3", code=None)
    assert "with 3 conversations at once on this machine; the verdict is kept" in done.stderr
    assert "the test has passed" in done.stderr
    kept = "select parallel, passed, speeds, recommended from selftests"
    assert rows(tmp_path, kept) == [(3, 1, "{}", None)]


def test_without_a_model_nothing_is_tested(tmp_path: Path) -> None:
    done = mh_batch(tmp_path, "selftest", code=3)
    assert "Name one with --model" in done.stderr
    assert not (tmp_path / "mh-batch.db").exists()


@pytest.mark.anyio
async def test_a_test_that_fails_ends_with_what_and_where(tmp_path: Path) -> None:
    found = await run(tmp_path, "variant", "[]")
    assert not found.verdict.passed
    assert "the same seeds after a restart" not in found.checked
    lines = "\n".join(table(found, 2))
    assert "failed: row 2 differs, first at layer 3" in lines
    assert "--allow-variance" in lines


@pytest.mark.anyio
async def test_equal_tokens_in_two_processes_pass(tmp_path: Path) -> None:
    found = await run(tmp_path, "demo", "[]")
    assert found.verdict.passed
    assert found.checked[-1] == "the same seeds after a restart"


@pytest.mark.anyio
async def test_other_tokens_in_the_second_process_fail(tmp_path: Path) -> None:
    found = await run(tmp_path, "demo", '["answer", "answer", "answer", "other"]')
    assert found.verdict.failed == "other tokens from the same seeds after a restart"
    assert "FAILED  the same seeds after a restart" in "\n".join(table(found, 2))


def test_a_failed_test_is_kept_and_its_exit_code_is_1(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failed(options: DrainOptions, name: str, say: Any) -> Found:
        found = await run_selftest(options, name, say, scripted(tmp_path, "[]"))
        return after_restart(found, equal=False)

    monkeypatch.setattr("mh_batch.worker.selftest.run_selftest", failed)
    done = mh_batch(tmp_path, "selftest", "--model", model, code=1)
    assert "failed: other tokens" in done.stdout
    assert rows(tmp_path, "select parallel, passed, failed from selftests") == [
        (8, 0, "other tokens from the same seeds after a restart")
    ]
