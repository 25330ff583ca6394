"""A conversation as a person reads it."""

from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    generation,
    rest,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.conversation import FunctionCall, FunctionSpec, Message, Request, Tool, ToolCall
from mh_batch.jobs.generation import Channel, Parse, ParserTier
from mh_batch.jobs.record import Attempt, AttemptKey, JobEnd, JobLine, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.worker.cli import app
from mh_batch.worker.output.show import attempt_line
from mh_batch.worker.text.console import plain


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["show", *arguments])
    assert done.exit_code == 0, done.exception
    return done.stdout


def rejected() -> Attempt:
    """A first attempt that went round in circles."""
    parse = Parse(1, ParserTier.TOLERANT, False, ("truncated",), (Channel("analysis", "round"),))
    made = msgspec.structs.replace(generation(), parse=parse)
    return msgspec.structs.replace(attempt(AttemptKey(), Verdict.RETRY), generation=made)


def rescued() -> Attempt:
    """A second attempt with other sampling."""
    second = attempt(AttemptKey(attempt=2))
    sampling = msgspec.structs.replace(second.sampling, max_tokens=50, repetition_penalty=1.1)
    return msgspec.structs.replace(second, sampling=sampling, rescued=True, seed=7)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    return tmp_path


def record(
    request: Request, *attempts: Attempt, custom_id: str = "mine", kept: Attempt | None = None
) -> None:
    """Store a job that ended with the last of `attempts`, which it kept if not another one."""
    db = open_store(Path("mh-batch.db"))
    submit(db, [JobLine(1, custom_id, None, request)])
    run_id = start(db)
    job = claim(db, run_id)
    for one in attempts[:-1]:
        queue.record(db, job.id, run_id, one, None, None)
    key = (kept or attempts[-1]).key
    queue.record(db, job.id, run_id, attempts[-1], turn(key), DONE)
    db.close()


@pytest.mark.usefixtures("folder")
def test_attempts_are_told_with_verdict_changes_and_the_text_that_was_rejected() -> None:
    record(Request((Message("user", "two and two?"),)), rejected(), rescued())
    lines = shown("mine", "--attempts").splitlines()
    assert lines[0] == "job 1 · mine · batch night · done · 2 attempts"
    assert lines[1] == "sampled with temperature 0.7"
    first = lines.index("── rejected attempt 1 · analysis") - 1
    assert lines[first].startswith("  attempt 1: retry (length), stop_token, tolerant parse,")
    assert "truncated" in lines[first]
    assert lines[first + 2] == "round"
    second = lines[first + 3]
    for part in (
        *("attempt 2: accept", "rescued", "seed 7", "repetition_penalty 1.0 → 1.1"),
        *("max_tokens 4096 → 50", "11 + 3 tokens", "prefill 0.00 s", "decode 0.50 s"),
    ):
        assert part in second
    assert lines[first + 4 :] == ["── assistant · analysis", "hm", "── assistant · final", "four"]


@pytest.mark.usefixtures("folder")
def test_what_an_attempt_goes_on_from_is_told_and_shown_once() -> None:
    second = rest(AttemptKey(attempt=2))
    sampling = msgspec.structs.replace(second.sampling, max_tokens=2048)
    second = msgspec.structs.replace(second, sampling=sampling)
    record(Request((Message("user", "two and two?"),)), rejected(), second)
    lines = shown("mine", "--attempts").splitlines()
    assert not [line for line in lines if "rejected attempt" in line or line == "round"]
    (told,) = [line for line in lines if line.startswith("  attempt 2")]
    assert told.startswith("  attempt 2: accept, goes on from attempt 1, stop_token,")
    assert "max_tokens 4096 → 2048" in told


@pytest.mark.usefixtures("folder")
def test_a_part_that_was_kept_is_shown_as_the_answer() -> None:
    worse = rest(AttemptKey(attempt=2), Verdict.GIVE_UP)
    first = attempt(AttemptKey(), Verdict.RETRY)
    record(Request((Message("user", "two and two?"),)), first, worse, kept=first)
    lines = shown("mine", "--attempts").splitlines()
    assert [line for line in lines if line.startswith("── ")] == [
        *("── user", "── assistant · analysis", "── assistant · final"),
        *("── rejected attempt 2 · analysis", "── rejected attempt 2 · final"),
    ]


@pytest.mark.usefixtures("folder")
def test_without_attempts_only_the_conversation_is_shown() -> None:
    record(Request((Message("user", "two and two?"),)), rejected(), rescued())
    assert shown("mine").splitlines() == [
        "job 1 · mine · batch night · done",
        *("── user", "two and two?"),
        *("── assistant · analysis", "hm", "── assistant · final", "four"),
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("options", [[], ["--attempts"]])
def test_an_answer_that_was_cut_is_marked_at_its_last_channel(options: list[str]) -> None:
    db = open_store(Path("mh-batch.db"))
    submit(db, [JobLine(1, "mine", None, Request((Message("user", "count"),)))])
    run_id = start(db)
    kept = msgspec.structs.replace(turn(complete=False), finish_reason="length")
    end = JobEnd(Status.INCOMPLETE)
    last = attempt(verdict=Verdict.GIVE_UP)
    queue.record(db, claim(db, run_id).id, run_id, last, kept, end)
    db.close()
    headers = [line for line in shown("mine", *options).splitlines() if line.startswith("──")]
    assert headers == ["── user", "── assistant · analysis", "── assistant · final · cut"]


@pytest.mark.usefixtures("folder")
def test_a_job_of_several_batches_is_named_with_its_batch() -> None:
    record(Request(), attempt())
    assert CliRunner().invoke(app, ["show", "mine"]).stderr == ""
    record(Request(), attempt())
    both = CliRunner().invoke(app, ["show", "mine"])
    assert "job 2 · mine" in both.stdout
    assert "of batch 2; the others: 1/mine" in both.stderr
    named = CliRunner().invoke(app, ["show", "1/mine"])
    assert "job 1 · mine" in named.stdout
    assert named.stderr == ""
    none = CliRunner().invoke(app, ["show", "7/mine"])
    assert "BATCH/JOB" in str(none.exception)


@pytest.mark.usefixtures("folder")
def test_an_attempt_in_a_slot_is_told_with_its_share_of_the_machine() -> None:
    made = side_by_side()
    assert attempt_line(made, made).endswith(
        "decode 2.00 s (4.0 of 8 slots busy, 1.00 s for other prompts, 0.25 s of the machine), "
        "8.0 tok/s"
    )
    assert "slots" not in attempt_line(attempt(), attempt())


def test_an_attempt_that_a_check_rejected_tells_why() -> None:
    checked = msgspec.structs.replace(
        attempt(verdict=Verdict.RETRY), retry_reason="rejected", rejected="it has no digit"
    )
    told = attempt_line(checked, checked)
    assert told.startswith("  attempt 1: retry (rejected: it has no digit), ")


@pytest.mark.usefixtures("folder")
def test_one_attempt_is_no_plural() -> None:
    record(Request((Message("user", "x"),)), attempt())
    assert shown("mine", "--attempts").splitlines()[0].endswith(" · done · 1 attempt")
    one = msgspec.structs.replace(generation().timings, completion_tokens=1)
    made = msgspec.structs.replace(generation(), timings=one)
    told = attempt_line(msgspec.structs.replace(attempt(), generation=made), attempt())
    assert "11 + 1 token," in told


@pytest.mark.usefixtures("folder")
def test_what_is_not_answered_yet_is_shown_too() -> None:
    db = open_store(Path("mh-batch.db"))
    submit(db, [JobLine(1, "mine", None, Request(turns=("first", "second")))])
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    open_turn = attempt(AttemptKey(turn=2), Verdict.RETRY)
    queue.record(db, job.id, run_id, open_turn, None, None)
    db.close()
    lines = shown("mine", "--attempts").splitlines()
    assert lines[lines.index("── user · not answered") + 1] == "second"
    assert "first" not in lines
    assert "── rejected attempt 1 · final" in lines


@pytest.mark.usefixtures("folder")
def test_given_reasoning_calls_and_tool_results_are_told_apart() -> None:
    call = ToolCall("c", FunctionCall("look", '{"x":1}'))
    context = (
        Message("system", "Be kind."),
        Message("user", "look"),
        Message("assistant", thinking="I look.", tool_calls=(call,)),
        Message("tool", "seen", name="look", tool_call_id="c"),
    )
    record(Request(context, tools=(Tool(FunctionSpec("look")),)), attempt())
    headers = [line for line in shown("mine").splitlines() if line.startswith("──")]
    assert headers == [
        *("── system", "── user", "── assistant · analysis"),
        "── assistant · commentary to functions.look",
        *("── tool · look", "── assistant · analysis", "── assistant · final"),
    ]


@pytest.mark.usefixtures("folder")
def test_no_text_steers_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\r\x00\x7f[bold]not markup[/bold] :smile:\tä"
    made = generation(text=evil)
    kept = msgspec.structs.replace(attempt(), generation=made)
    record(Request((Message("user", evil),)), kept, custom_id="id\x1b[31m")
    for arguments in (["1"], ["1", "--attempts"]):
        text = shown(*arguments)
        assert not [c for c in text if c not in "\n\t" and (c < " " or "\x7f" <= c <= "\x9f")]
        assert "id\\x1b[31m" in text
        assert "\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\x08\\x0d\\x00\\x7f[bold]not markup" in text
    done = CliRunner().invoke(app, ["query", "select custom_id, request as 'a\x1bb' from jobs"])
    assert "\x1b" not in done.stdout
    assert "a\\x1bb" in done.stdout


def test_lines_and_tabs_stay_as_they_are() -> None:
    assert str(plain("a\n\tb")) == "a\n\tb"


@pytest.mark.usefixtures("folder")
def test_a_long_conversation_is_written_to_a_pipe_without_rich(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rendered(*_: object, **__: object) -> None:
        raise AssertionError("rich takes ten times as long")

    messages = [Message("user", f"question\t{number}\x1b[2J") for number in range(9)]
    record(Request(messages=tuple(messages)), attempt())
    monkeypatch.setattr(Console, "print", rendered)
    assert "── user\nquestion\t8\\x1b[2J\n" in shown("1")


def test_an_answer_in_json_is_shown_indented(folder: Path) -> None:
    assert folder.is_dir()
    form = {"structured_outputs": {"json_object": True}}
    text = '{"name":"Ada","born":1815}'
    parse = Parse(1, ParserTier.STRICT, True, (), (Channel("final", text),))
    made = msgspec.structs.replace(generation(), parse=parse)
    answered = msgspec.structs.replace(attempt(), generation=made)
    db = open_store(Path("mh-batch.db"))
    submit(db, [JobLine(1, "mine", None, Request((Message("user", "Who?"),), settings=form))])
    run_id = start(db)
    job = claim(db, run_id)
    kept = msgspec.structs.replace(turn(), final=text, parsed=text)
    queue.record(db, job.id, run_id, answered, kept, DONE)
    db.close()
    for arguments in (("mine",), ("mine", "--attempts")):
        assert '{\n  "name": "Ada",\n  "born": 1815\n}\n' in shown(*arguments)
