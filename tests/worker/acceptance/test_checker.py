"""Functions of the user, in processes of their own and in the worker."""

import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from helpers.documents import TEXTS
from helpers.made import claimed
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import AttemptKey
from mh_batch.worker.acceptance.checker import LOUD, Checker
from mh_batch.worker.acceptance.function import FunctionFile, call, load
from mh_batch.worker.acceptance.protocol import Check, LoadFunction
from mh_batch.worker.controller.conversation import GoodAnswer
from mh_batch.worker.runtime.child import PYTHON

pytestmark = pytest.mark.anyio

SOURCE = """
import os, signal, sys, time

print("loaded", __name__)

def verdict(job, answer):
    text = answer["final"]
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "hang":
        (lambda: [None for _ in iter(int, 1)])()
    if text == "raise":
        raise ValueError("no\\nnumber")
    if text == "exit":
        sys.exit(3)
    if text == "true":
        return True
    if text == "look":
        return repr((job, answer, os.getcwd() in sys.path, "" in sys.path))
    return None if text == "fine" else f"bad: {text}"

async def later(job, answer):
    return None

def one(job):
    return None
"""


class Notes:
    """Collects what a person is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str) -> None:
        self.said.append(text)


def good(text: str, attempt: int = 1) -> GoodAnswer:
    said = (Message("user", "Hi"),)
    return GoodAnswer(AttemptKey(attempt=attempt), said, text, "thought")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "check.py"
    path.write_text(SOURCE)
    return f"{path}:verdict"


def checker(function: Any, folder: Path, seconds: float = 20.0, notes: Any = print) -> Checker:
    return Checker(function, folder / "worker.log", seconds, 1, notes)


async def _load(function: str, folder: Path) -> None:
    async with checker(function, folder) as checks:
        await checks.load()


async def test_a_function_of_a_file_gets_plain_values_apart_from_the_working_folder(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signal.py").write_text("raise RuntimeError('imported from the working folder')")
    async with checker(file, tmp_path) as checks:
        assert await checks.rejection(claimed(), good("fine")) is None
        assert await checks.rejection(claimed(), good("x\x1b")) == "bad: x\x1b"
        seen = await checks.rejection(claimed(), good("look", attempt=2))
    job, answer, *paths = eval(seen or "")
    assert job == {
        "custom_id": "c",
        "batch_id": 1,
        "model": "demo",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [],
        "metadata": None,
    }
    assert answer == {
        "final": "look",
        "analysis": "thought",
        **{"choice": 0, "turn": 1, "step": 0, "attempt": 2},
    }
    assert paths == [False, False]
    assert "loaded mh_batch_accept" in (tmp_path / "worker.log").read_text()


async def test_what_goes_wrong_with_a_function_rejects_the_answer_and_the_next_is_checked(
    file: str, tmp_path: Path
) -> None:
    notes = Notes()
    expected = {
        "raise": "accept function: ValueError: no number",
        "exit": "accept function: SystemExit: 3",
        "true": "accept function: it returned True, which is neither None nor a reason",
        "die": "accept function: its process ended with signal 9",
    }
    async with checker(file, tmp_path, notes=notes) as checks:
        for text, reason in expected.items():
            assert await checks.rejection(claimed(), good(text)) == reason
        assert len(notes.said) == 1
        assert f"failed at {LOUD} answers in a row" in notes.said[0]
        assert await checks.rejection(claimed(), good("fine")) is None
        for _ in range(LOUD):
            await checks.rejection(claimed(), good("raise"))
    assert len(notes.said) == 2
    log = (tmp_path / "worker.log").read_text()
    assert 'raise ValueError("no\\nnumber")' in log


async def test_a_check_without_end_is_killed_after_its_time(file: str, tmp_path: Path) -> None:
    async with checker(file, tmp_path, seconds=0.2) as checks:
        reason = await checks.rejection(claimed(), good("hang"))
    assert reason == "accept function: no verdict within 0.2 s"


async def test_a_regular_expression_that_explodes_is_stopped(tmp_path: Path) -> None:
    job = claimed(accept={"regex": "(a+)+b", "full_match": True})
    async with checker(None, tmp_path, seconds=0.2) as checks:
        assert checks.checks(job)
        assert not checks.checks(claimed())
        assert not checks.checks(claimed(accept={}))
        with anyio.fail_after(30):
            reason = await checks.rejection(job, good("a" * 64))
    assert reason == "accept rules: no verdict within 0.2 s"


async def test_rules_come_before_the_function(file: str, tmp_path: Path) -> None:
    job = claimed(accept={"min_chars": 9})
    async with checker(file, tmp_path) as checks:
        reason = await checks.rejection(job, good("fine"))
        assert reason == "it has 4 characters and must have at least 9"
        job = claimed(accept={"max_chars": 9})
        assert await checks.rejection(job, good("fine")) is None
        assert await checks.rejection(job, good("wrong")) == "bad: wrong"


async def test_what_takes_too_long_is_named_where_there_are_rules_and_a_function(
    file: str, tmp_path: Path
) -> None:
    notes = Notes()
    slow = claimed(accept={"regex": "(a+)+b", "full_match": True})
    quick = claimed(accept={"min_chars": 1})
    async with checker(file, tmp_path, seconds=0.2, notes=notes) as checks:
        for _ in range(LOUD):
            reason = await checks.rejection(slow, good("a" * 64))
            assert reason == "accept rules: no verdict within 0.2 s"
        # the function is not to blame for it
        assert notes.said == []
        reason = await checks.rejection(quick, good("hang"))
        assert reason == "accept function: no verdict within 0.2 s"


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("import no_such_module_anywhere\n", "f", "ModuleNotFoundError: No module named"),
        ("import beside\ndef f(job, answer): ...\n", "f", "No module named 'beside'"),
        ("\ndef f(:\n", "f", "SyntaxError: invalid syntax (check.py, line 2)"),
        ("import json\nx = 1\njson.loads('')\n", "f", "(char 0) (check.py, line 3)"),
        (SOURCE, "none", "AttributeError: there is no function none in it"),
        (SOURCE, "one", "TypeError: one(job) must take a job and an answer"),
        ("raise SystemExit(4)\n", "f", "SystemExit: 4"),
    ],
)
async def test_a_function_that_cannot_be_loaded_is_refused_at_the_start(
    tmp_path: Path, source: str, name: str, reason: str
) -> None:
    path = tmp_path / "check.py"
    path.write_text(source)
    (tmp_path / "beside.py").write_text("")
    with pytest.raises(InputError) as refused:
        await _load(f"{path}:{name}", tmp_path)
    assert str(refused.value).startswith(f"accept: {path}:{name}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("check.py", "write it as FILE.py:function"),
        ("check.py:", "write it as FILE.py:function"),
        ("check.py:f()", "write it as FILE.py:function"),
        ("none.py:f", "none.py: No such file or directory"),
    ],
)
def test_a_function_is_named_by_its_file_and_its_name(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason.replace("(", r"\(")):
        FunctionFile.parse(spec)


def test_the_record_of_a_function_has_its_name_and_the_hash_of_its_source(
    file: str, tmp_path: Path
) -> None:
    checks = checker(file, tmp_path)
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert json.loads(checks.record or "") == {"name": "check.py:verdict", "sha256": digest}
    # a process that is started later still runs what is on record
    (tmp_path / "check.py").write_text("changed")
    assert json.loads(checks.record or "")["sha256"] == digest
    assert checker(None, tmp_path).record is None


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("of_a_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "of_a_file", module)
    return module


def test_a_function_object_is_loaded_from_its_file_where_it_can_be(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(file.rpartition(":")[0])
    module = imported(path, monkeypatch)
    assert FunctionFile.of(module.verdict) == FunctionFile(str(path), "verdict", SOURCE.encode())
    lost: list[Callable[..., Any]] = [lambda _job, _answer: None, partial(module.verdict), print]
    assert [FunctionFile.of(function) for function in lost] == [None] * 3
    module.verdict.__module__ = "__main__"
    assert FunctionFile.of(module.verdict) is None


async def test_any_other_function_is_called_in_the_worker(tmp_path: Path) -> None:
    pids: list[int] = []

    def local(job: dict[str, Any], answer: dict[str, Any]) -> str | None:
        pids.append(os.getpid())
        if answer["final"] == "raise":
            raise KeyError("x")
        if answer["final"] == "hang":
            signal.pause()
        return None if job["metadata"] is None else "no"

    async with checker(local, tmp_path, seconds=0.5) as checks:
        assert await checks.rejection(claimed(), good("fine")) is None
        assert await checks.rejection(claimed(), good("raise")) == "accept function: KeyError: 'x'"
        assert await checks.rejection(claimed(accept={"max_chars": 2}), good("fine"))
    assert pids == [os.getpid()] * 2
    assert "local" in json.loads(checks.record or "")["name"]


async def test_one_in_the_worker_that_never_returns_is_left_to_itself(tmp_path: Path) -> None:
    free = threading.Event()

    def stuck(job: dict[str, Any], _answer: dict[str, Any]) -> str | None:
        free.wait(30)
        return str(job)

    async with checker(stuck, tmp_path, seconds=0.1) as checks:
        for _ in range(2):
            reason = await checks.rejection(claimed(), good("fine"))
            assert reason == "accept function: no verdict within 0.1 s"
    free.set()


@pytest.mark.parametrize("function", [3, lambda job: None])  # noqa: ARG005
def test_what_is_no_function_of_a_job_and_an_answer_is_refused(
    function: object, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"accept: "):
        checker(function, tmp_path)


def test_the_function_of_the_guide_accepts_and_rejects() -> None:
    (source,) = re.findall(r"```py\n(.*?)```", TEXTS["docs/guide.md"], re.DOTALL)
    function = load(LoadFunction("good", "check.py", source.encode()))
    answer = {"final": "It is 42."}
    said = [
        call(function, {"metadata": metadata}, answer).rejected
        for metadata in (None, {"expected": "42"}, {"expected": "43"})
    ]
    assert said == [None, None, "the result is wrong"]


async def test_a_coroutine_is_no_verdict(file: str, tmp_path: Path) -> None:
    async with checker(file.replace(":verdict", ":later"), tmp_path) as checks:
        reason = await checks.rejection(claimed(), good("fine"))
    assert "which is neither None nor a reason" in (reason or "")


@pytest.mark.parametrize("stage", ["load", "check"])
def test_a_checking_process_whose_worker_is_gone_ends_in_an_endless_file(stage: str) -> None:
    start = "from mh_batch.worker.acceptance import child; child.ORPHAN_SECONDS = 0; child.main()"
    source = (
        "while True:\n    pass\n"
        if stage == "load"
        else "def f(job, answer):\n    while True:\n        pass\n"
    )
    frames = [
        LoadFunction("f", "f.py", source.encode(), 0.3 if stage == "load" else 60.0),
        Check(None, {}, {"final": "x"}, 0.3),
    ]
    sent = b"".join(msgspec.json.encode(frame) + b"\n" for frame in frames)
    done = subprocess.run([*PYTHON, "-c", start], input=sent, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGALRM
