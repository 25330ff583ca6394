"""A file measured before it is queued, by a real model process without weights."""

import io
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from helpers.command_line import mh_batch, write_lines
from helpers.made import claimed
from mh_batch.engine.demo import DEMO_MODEL
from mh_batch.engine.measure import PromptMeasurer
from mh_batch.jobs.errors import BadLines, ModelNotLoaded, ModelProcessDied, NoModel
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_store
from mh_batch.store.reports.estimate import ThroughputEstimate
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.submission.dry_run import check, dry_run, estimates_in, spread
from mh_batch.worker.submission.dry_run_report import SHOWN_LINES, DryRunReport, LineEstimate
from mh_batch.worker.submission.submission import Rules
from mh_batch.worker.text.format import format_duration

pytestmark = pytest.mark.anyio

PAST = ThroughputEstimate(10, 50.0, 1000.0, 100.0, 1.5)


async def report(
    *lines: Mapping[str, object], model: str | None = "demo", **settings: object
) -> str:
    """Check these lines and return what is printed."""
    stream = io.BytesIO(b"\n".join(json.dumps(line).encode() for line in lines))
    batch = NewBatch("f", "f.jsonl", apply(Settings(), settings), model)
    done: list[int] = []
    with anyio.fail_after(120):
        found = await check(stream, batch, lambda _: None, done.append)
    assert done == [*range(1, len(lines) + 1)]
    return "\n".join(found.lines())


async def test_each_line_is_measured_and_told_with_its_number() -> None:
    long = "hello " * 40
    text = await report(
        {"prompt": "hi", "max_tokens": 10},
        {"prompt": long},
        {"turns": ["hi", long, "bye"], "max_tokens": 10},
        {"turns": ["hi " * 20, "hi " * 20], "max_tokens": 10, "n": 2},
        {"prompt": "hi", "max_tokens": 500},
        max_context_tokens=120,
    )
    assert "f.jsonl: 5 lines checked, nothing was queued" in text
    assert "2 lines cannot be done:" in text
    assert "  f.jsonl:2: the system messages and the last turn alone have" in text
    assert "  f.jsonl:3: the system messages and the last turn alone have" in text
    assert "1 line would lose the oldest part of the history:\n  f.jsonl:4: 1 turn at least" in text
    assert "1 line would have less room for an answer than max_tokens:\n  f.jsonl:5:" in text
    assert "demo: no estimate" in text


async def test_the_count_is_that_of_the_attempt_that_will_run() -> None:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    tokens = len(PromptMeasurer("demo").fit(action.request).tokens)
    assert f"min {tokens}, median {tokens}, p95 {tokens}, max {tokens}" in await report(
        {"prompt": "Hi"}
    )


async def test_a_model_is_measured_without_its_weights(tmp_path: Path) -> None:
    shutil.copy(DEMO_MODEL / "config.json", tmp_path)
    assert "1 line checked" in await report({"prompt": "hi", "model": str(tmp_path)}, model=None)


async def test_bad_lines_are_those_of_a_submit() -> None:
    twice = {"custom_id": "a", "prompt": "x"}
    with pytest.raises(BadLines, match=r"f\.jsonl:2: "):
        await report(twice, twice)


def test_bad_lines_are_left_out_if_asked_and_no_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    unknown = {"body": {"messages": [{"role": "user", "content": "c"}], "provider": 1}}
    path.write_text(f'{{"prompt": "a"}}\nno json\n{{"prompt": "b"}}\n{json.dumps(unknown)}\n')
    batch = NewBatch("in", str(path), Settings(), "demo")
    rules = Rules(skip_bad=True, ignore_unknown=True)
    found = dry_run(batch, tmp_path / "nowhere.db", rules)
    lines = list(found.lines())
    assert found.all_fit
    assert lines[0].endswith("3 lines checked, nothing was queued")
    assert lines[1] == "1 bad line would be left out"
    assert lines[2] == "unknown keys left out: provider (1 line)"
    assert [*tmp_path.iterdir()] == [path]


DIES = """
import os
from mh_batch.worker.model_process import protocol
os.write(1, protocol.encode(protocol.Hello(protocol.PROTOCOL, "0", os.getpid())))
os.read(0, 1)
os._exit(7)
"""


async def test_a_line_that_takes_the_model_process_along_is_named() -> None:
    batch = NewBatch("f", "f.jsonl", Settings(), "demo")
    stream = io.BytesIO(b'{"prompt": "a"}\n')
    with anyio.fail_after(60), pytest.raises(ModelProcessDied, match=r"f\.jsonl:1: .*code 7"):
        await check(stream, batch, lambda _: None, command=(sys.executable, "-c", DIES))


async def test_without_a_model_the_line_is_named() -> None:
    with pytest.raises(NoModel, match=r"f\.jsonl:1: names no model"):
        await report({"prompt": "x"}, model=None)
    with pytest.raises(ModelNotLoaded, match="nowhere"):
        await report({"prompt": "x"}, model="./nowhere")


async def test_a_model_that_one_line_names_and_is_none_is_told_with_the_line() -> None:
    odd = {"prompt": "x", "model": "gpt-4o-mini"}
    text = await report(odd, {"prompt": "x"}, odd)
    assert "3 lines checked" in text
    assert "2 lines cannot be done:\n  f.jsonl:1: gpt-4o-mini: no such folder" in text
    assert "  f.jsonl:3: gpt-4o-mini: no such folder" in text
    assert "demo: no estimate" in text


def weight(prompt: int = 100, answers: int = 2, most: int = 4096) -> LineEstimate:
    return LineEstimate(prompt, most, most, 0, answers)


def test_the_time_is_estimated_from_the_estimate_of_the_model() -> None:
    found = DryRunReport("f", lambda _: PAST)
    found.take(1, "demo", weight())
    found.take(2, "demo", weight(most=50))
    # 200 / 1000 s of prompts; 2 x 100 and 2 x 50 tokens, 1.5 times each, at 50 a second
    about, most = list(found.lines())[-2:]
    assert about.startswith("demo: about 0:09, if it goes like its last 10 attempts here")
    # 2 x 4096 and 2 x 50 tokens, 1.5 times each
    seconds = 0.2 + (2 * 4096 + 2 * 50) * 1.5 / 50
    assert most.startswith(f"  at most {format_duration(seconds)} at that speed, if each answer")
    assert most.endswith("(8,292 tokens in all)")


@pytest.mark.parametrize(
    ("parallel", "told"),
    [(1, "at 50 tok/s, and"), (4, "at 50 tok/s with 4 conversations at once, and")],
)
def test_an_estimate_says_how_many_conversations_decoded_at_once(parallel: int, told: str) -> None:
    found = DryRunReport("f", lambda _: replace(PAST, parallel=parallel))
    found.take(1, "demo", weight())
    assert told in list(found.lines())[-2]


def test_each_model_has_an_estimate_of_its_own_or_none() -> None:
    found = DryRunReport("f", lambda model: PAST if model == "a" else None)
    found.take(1, "a", weight())
    found.take(2, "b", weight())
    about, _, none, most = list(found.lines())[-4:]
    assert about.startswith("a: about")
    assert none.startswith("b: no estimate")
    assert none.endswith("`--trial 3` answers some lines to have one")
    assert most == "  at most 8,192 tokens, if each answer takes all of its max_tokens"


def test_a_trial_takes_the_place_of_what_the_database_knows() -> None:
    found = DryRunReport("f", lambda model: PAST if model == "a" else None)
    found.take(1, "a", weight())
    found.take(2, "b", weight())
    found.use_trial({"a": replace(PAST, attempts=4, tokens_per_second=10.0)}, ["  f:1: done: x"])
    said, line, about, _, none, _ = list(found.lines())[-6:]
    assert (said, line) == ("1 line answered on trial, nothing was kept:", "  f:1: done: x")
    assert about.startswith("a: about 0:30, if it goes like the 4 attempts of the trial: ")
    assert none == "b: no estimate of the time, the trial had too few attempts of it"


@pytest.mark.parametrize(
    ("lines", "most", "numbers"),
    [
        (100, 3, [1, 50, 100]),
        (2, 3, [1, 2]),
        (5, 1, [1]),
        (0, 3, []),
        (9, 0, []),
    ],
)
def test_the_lines_of_a_trial_are_spread_over_the_file(
    lines: int, most: int, numbers: list[int]
) -> None:
    assert spread(lines, most) == numbers


def test_token_counts_are_told_by_their_quantiles() -> None:
    found = DryRunReport("f", lambda _: None)
    for number in range(1, 101):
        found.take(number, "demo", weight(prompt=number))
    assert "min 1, median 50, p95 95, max 100" in list(found.lines())[1]


def test_of_many_bad_lines_the_first_are_named() -> None:
    found = DryRunReport("f", lambda _: None)
    for number in range(SHOWN_LINES + 5):
        found.refuse(number, "why")
    lines = list(found.lines())
    assert lines[1:3] == ["25 lines cannot be done:", "  f:0: why"]
    assert lines[-1] == "  and 5 more"
    assert not found.all_fit


def test_a_past_is_read_from_the_database_if_there_is_one(tmp_path: Path) -> None:
    with estimates_in(tmp_path / "nowhere.db") as estimate_of:
        assert estimate_of("demo") is None
    open_store(tmp_path / "mh-batch.db").close()
    with estimates_in(tmp_path / "mh-batch.db") as estimate_of:
        assert estimate_of("demo") is None


def test_a_long_file_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mh_batch.worker.submission.dry_run.PROGRESS_SECONDS", 0.0)
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    batch = NewBatch("in", str(path), Settings(), "demo")
    assert dry_run(batch, tmp_path / "nowhere.db").all_fit
    assert capsys.readouterr().err.splitlines() == ["1 line so far", "2 lines so far"]


TOO_WIDE = "repetition_window: at most 131,072, got 300,000,000"


@pytest.mark.parametrize("checked", [(), ("--check", "--model", "demo")])
def test_a_setting_that_would_fill_memory_is_refused_by_a_check_as_by_a_submit(
    tmp_path: Path, checked: tuple[str, ...]
) -> None:
    lines = [{"prompt": "a"}, {"prompt": "b", "repetition_window": 300_000_000}]
    write_lines(tmp_path, lines)
    told = mh_batch(tmp_path, "submit", "convos.jsonl", *checked, code=2).stderr
    assert told == f"mh-batch: convos.jsonl:2: {TOO_WIDE}\n"
    write_lines(tmp_path, lines[:1])
    wide = ("--set", "repetition_window=300000000")
    told = mh_batch(tmp_path, "submit", "convos.jsonl", *wide, *checked, code=2).stderr
    assert told == f"mh-batch: {TOO_WIDE}\n"
