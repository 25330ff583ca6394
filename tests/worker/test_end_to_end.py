"""The whole line on the demo model: files in, results out, whatever happens in between."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from helpers.command_line import mh_batch, mh_batch_process, rows, write_lines
from helpers.forks import Forks
from helpers.paths import HELPERS

WATCHED = HELPERS / "watched_worker.py"

CONVERSATIONS = [
    {"custom_id": "sum", "turns": ["What is 17 + 25?"]},
    {"custom_id": "chat", "turns": ["Hello", "Hello again"]},
    {
        "custom_id": "count",
        "prompt": "Count from 1 to 200.",
        "max_tokens": 24,
        "max_attempts": 1,
    },
]


TURNS = """
select j.custom_id, t.turn, t.user, t.final, t.analysis, t.finish_reason, t.attempts
from turns t join jobs j on j.id = t.job_id order by 1, 2
"""
TOKENS = """
select j.custom_id, a.turn, a.attempt, a.verdict, a.retry_reason, a.seed, hex(a.tokens)
from attempts a join jobs j on j.id = a.job_id order by 1, 2, 3
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the conversations were run in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_lines(folder, CONVERSATIONS)
    mh_batch_process(folder, "run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo", code=1)
    return folder


def test_results_come_in_input_order_as_openai_batch_lines(uninterrupted: Path) -> None:
    lines = [json.loads(line) for line in (uninterrupted / "out.jsonl").read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == ["sum", "chat", "count"]
    for line in lines:
        assert line["error"] is None
        choice = line["response"]["body"]["choices"][0]
        assert choice["message"]["role"] == "assistant"
        assert line["response"]["body"]["usage"]["completion_tokens"] > 0
    assert lines[0]["mh_batch"]["turns"][0]["final"] == "17 + 25 = 42"


def test_every_attempt_has_a_timing_row_a_parse_and_a_channel(uninterrupted: Path) -> None:
    ((attempts,),) = rows(uninterrupted, "select count(*) from attempts")
    assert attempts == 5  # four turns, and one that goes on with counting
    assert rows(uninterrupted, "select count(*) from timings where tokens_per_second > 0") == [
        (attempts,)
    ]
    assert rows(uninterrupted, "select count(*) from parses where current") == [(attempts,)]
    assert rows(uninterrupted, "select count(distinct attempt_id) from channels") == [(attempts,)]
    assert rows(uninterrupted, "select count(*) from turns") == [(4,)]
    assert rows(uninterrupted, "pragma foreign_key_check") == []
    assert rows(uninterrupted, "pragma integrity_check") == [("ok",)]


def test_a_count_that_runs_out_of_room_goes_on_once_and_is_kept_as_incomplete(
    uninterrupted: Path,
) -> None:
    counted = rows(
        uninterrupted,
        """select attempt, verdict, retry_reason, json_extract(sampling, '$.max_tokens')
        from attempts a join jobs j on j.id = a.job_id where custom_id = 'count'""",
    )
    assert counted == [(1, "retry", "length", 24), (2, "give_up", "length", 12)]
    assert rows(uninterrupted, "select custom_id, status from jobs where status != 'done'") == [
        ("count", "incomplete")
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "convos", "--json"],
        ["results"],
        ["results", "1", "--format", "messages", "--status", "done,incomplete"],
        ["show", "1"],
        ["show", "count", "--attempts"],
        ["query", "select channel, count(*) from channels group by 1"],
        ["query", "--csv", "select * from timings"],
        ["query", "--json", "select * from results"],
        ["query", "select * from throughput"],
        ["query", "select * from speed_by_context"],
        ["query", "select * from retry_yield"],
    ],
    ids=" ".join,
)
def test_every_report_command_answers(uninterrupted: Path, arguments: list[str]) -> None:
    assert mh_batch(uninterrupted, *arguments).stdout.strip()


def test_show_prints_the_conversation_with_its_channels_and_attempts(uninterrupted: Path) -> None:
    shown = mh_batch(uninterrupted, "show", "sum", "--attempts").stdout
    for part in ("What is 17 + 25?", "assistant · analysis", "17 + 25 = 42", "attempt 1: accept"):
        assert part in shown


class Watched:
    """A worker in a process of its own, followed event by event.

    With `forks`, its model process is a fork of theirs.
    """

    def __init__(self, folder: Path, interrupts: signal.Handlers, forks: Forks | None) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(WATCHED), str(folder / "mh-batch.db"), "1"),
                *([forks.socket()] if forks else []),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, interrupts),
        )

    def events(self) -> Iterator[list[str]]:
        """Yield the events as they come; ends with the process."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.split()

    def children(self) -> list[psutil.Process]:
        """The model process, if it runs."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return children


def strike(
    folder: Path,
    at: Callable[[list[str]], bool],
    blow: Callable[[Watched], object],
    interrupts: signal.Handlers = signal.SIG_DFL,
    forks: Forks | None = None,
) -> None:
    """Run a worker until the first event for which `at` is true, deal the blow, see it end.

    It is started with SIGINT as `interrupts` says, whatever these tests were started with.
    """
    watched = Watched(folder, interrupts, forks)
    children: list[psutil.Process] = []
    struck = False
    for event in watched.events():
        children = children or watched.children()
        if not struck and at(event):
            struck = True
            blow(watched)
    watched.process.wait(timeout=60)
    assert struck
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "an orphan model process"


def second_turn(event: list[str]) -> bool:
    return event[0] == "attempt" and event[2] == "2"


def in_the_middle_of_counting(event: list[str]) -> bool:
    return event[:2] == ["attempt", "count"]


@pytest.mark.parametrize(
    ("at", "blow", "whole"),
    [
        # with a model process of its own, which must see that its worker is gone
        (second_turn, lambda w: w.process.kill(), True),
        (in_the_middle_of_counting, lambda w: w.children()[0].kill(), False),
    ],
    ids=["SIGKILL of the worker", "SIGKILL of the model process"],
)
def test_a_drain_that_was_killed_and_went_on_ends_as_one_that_nobody_disturbed(
    tmp_path: Path,
    uninterrupted: Path,
    forks: Forks,
    at: Callable[[list[str]], bool],
    blow: Callable[[Watched], object],
    whole: bool,
) -> None:
    write_lines(tmp_path, CONVERSATIONS)
    mh_batch(tmp_path, "submit", "convos.jsonl")
    strike(tmp_path, at, blow, forks=None if whole else forks)
    mh_batch(tmp_path, "status")
    mh_batch(tmp_path, "work", "--model", "demo", code=1 if at is second_turn else 0)
    assert rows(tmp_path, TURNS) == rows(uninterrupted, TURNS)
    assert rows(tmp_path, TOKENS) == rows(uninterrupted, TOKENS)
    assert rows(tmp_path, "pragma foreign_key_check") == []


def test_a_stop_between_two_attempts_at_an_answer_changes_nothing(
    tmp_path: Path, uninterrupted: Path, forks: Forks
) -> None:
    write_lines(tmp_path, CONVERSATIONS)
    mh_batch(tmp_path, "submit", "convos.jsonl")
    interrupt = lambda w: w.process.send_signal(signal.SIGINT)  # noqa: E731
    strike(tmp_path, in_the_middle_of_counting, interrupt, forks=forks)
    # the attempt is on record, what it is followed by is not begun, and nothing else
    counted = f"select attempt, verdict from ({TOKENS}) where custom_id = 'count'"
    assert rows(tmp_path, counted) == [(1, "retry")]
    assert rows(tmp_path, "select status from jobs order by id") == [
        *[("done",)] * 2,
        ("queued",),
    ]
    assert rows(tmp_path, "select end_reason from runs") == [("stopped",)]
    mh_batch(tmp_path, "work", "--model", "demo", code=1)
    assert rows(tmp_path, TURNS) == rows(uninterrupted, TURNS)
    assert rows(tmp_path, TOKENS) == rows(uninterrupted, TOKENS)


def test_a_worker_in_the_background_of_a_script_hears_an_interrupt_all_the_same(
    tmp_path: Path, forks: Forks
) -> None:
    write_lines(tmp_path, [{"custom_id": "talk", "turns": ["What is 12 + 9?", "Now add 5."]}])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    first = lambda event: event[0] == "attempt"  # noqa: E731
    interrupt = lambda w: w.process.send_signal(signal.SIGINT)  # noqa: E731
    strike(tmp_path, first, interrupt, signal.SIG_IGN, forks)
    assert rows(tmp_path, "select end_reason from runs") == [("stopped",)]
    assert rows(tmp_path, "select status from jobs") == [("queued",)]


def test_a_second_worker_is_refused_with_the_pid_of_the_first(tmp_path: Path, forks: Forks) -> None:
    # longer than the second one waits for a lock that is held for a moment only
    counting = {"prompt": "Count from 1 to 200.", "max_tokens": 200, "max_attempts": 1}
    write_lines(tmp_path, [{"custom_id": f"count-{n}", **counting} for n in range(3)])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    refused: list[str] = []

    def try_another(watched: Watched) -> None:
        done = mh_batch_process(tmp_path, "work", "--model", "demo", code=3)
        refused.append(done.stderr)
        assert str(watched.process.pid) in done.stderr
        assert watched.process.poll() is None
        watched.process.kill()

    strike(tmp_path, lambda event: event[0] == "attempt", try_another, forks=forks)
    assert len(refused[0].splitlines()) == 1


BAD_INPUT = {
    "not JSON": b"{",
    "not an object": b"[1]",
    "no known shape": b'{"text": "x"}',
    "an unknown role": b'{"messages": [{"role": "bot", "content": "x"}]}',
    "a value out of range": b'{"prompt": "x", "temperature": -1}',
    "a near miss": b'{"prompt": "x", "temprature": 1}',
    "invalid UTF-8": b'{"prompt": "\xff"}',
    "a duplicate": b'{"custom_id": "a", "prompt": "x"}\n{"custom_id": "a", "prompt": "y"}',
    "an empty file": b"",
    "a binary file": b"\x7fELF\0\0\0\n\0",
}


@pytest.mark.parametrize("content", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_lands_nothing_and_is_named(tmp_path: Path, content: bytes) -> None:
    good = b'{"custom_id": "good", "prompt": "x"}\n'
    (tmp_path / "in.jsonl").write_bytes((good if content and content[0] != 0x7F else b"") + content)
    done = mh_batch(tmp_path, "submit", "in.jsonl", code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("mh-batch: in.jsonl:")
    assert rows(tmp_path, "select count(*) from jobs") == [(0,)]
    assert rows(tmp_path, "select count(*) from batches") == [(0,)]


def test_a_missing_file_and_a_folder_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("missing.jsonl", "folder"):
        assert len(mh_batch(tmp_path, "submit", name, code=2).stderr.splitlines()) == 1


def test_a_model_that_does_not_exist_leaves_the_jobs_queued(tmp_path: Path) -> None:
    here = {"prompt": "What is 2 + 3?", "model": "demo", "max_tokens": 32}
    write_lines(tmp_path, [here, *({"prompt": f"What is {n} + 3?"} for n in range(2))])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    for command in (["work"], ["run", "convos.jsonl", "-o", "out.jsonl"]):
        *summary, last = mh_batch(
            tmp_path, *command, "--model", "./nowhere", "--notify", "cat > told.json", code=3
        ).stderr.splitlines()
        assert re.fullmatch(r"mh-batch: 2 jobs stay queued: .*/nowhere: no such folder .*", last)
        told = "1 done" if command == ["work"] else "no job was finished"
        assert f"ended early: {told}" in summary
        notified = json.loads((tmp_path / "told.json").read_text())
        assert (notified["end_reason"], notified["exit_code"]) == ("error", 3)
        assert notified["left"] == 2
        assert "no such folder" in notified["fault"]
    assert rows(tmp_path, "select status from jobs") == [("done",), ("queued",), ("queued",)]
    assert not (tmp_path / "out.jsonl").exists()


def test_without_a_model_the_choices_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path, CONVERSATIONS)
    mh_batch(tmp_path, "submit", "convos.jsonl")
    assert "--model" in mh_batch(tmp_path, "work", code=3).stderr


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mh-batch.db").write_bytes(b"not a database, by any means" * 100)
    write_lines(tmp_path, CONVERSATIONS)
    for arguments in (["submit", "convos.jsonl"], ["work", "--model", "demo"], ["status"]):
        assert len(mh_batch(tmp_path, *arguments, code=3).stderr.splitlines()) == 1
    assert (tmp_path / "mh-batch.db").read_bytes() == b"not a database, by any means" * 100


def test_the_example_file_is_drained_and_every_shape_in_it_answered(night: Path) -> None:
    lines = {}
    for text in mh_batch(night, "results", "example").stdout.splitlines():
        line = json.loads(text)
        lines[line["custom_id"]] = line["response"]["body"]["choices"][0]
    assert len(lines) == 8
    (call,) = lines["tool"]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    assert lines["tool"]["finish_reason"] == "tool_calls"
    assert lines["sum"]["message"]["content"] == "17 + 25 = 42"


def test_results_never_overwrite_the_database_or_the_input(tmp_path: Path) -> None:
    path = write_lines(tmp_path, CONVERSATIONS[-1:])
    before = path.read_bytes()
    refused = mh_batch_process(tmp_path, "run", "convos.jsonl", "-o", "convos.jsonl", code=2)
    assert "would overwrite" in refused.stderr
    assert path.read_bytes() == before
    mh_batch(tmp_path, "submit", "convos.jsonl")
    for name in ("mh-batch.db", "mh-batch.db-wal", "mh-batch.db.lock"):
        mh_batch(tmp_path, "results", "-o", name, code=2)
    assert rows(tmp_path, "select count(*) from jobs") == [(1,)]


def test_results_go_through_a_link_to_the_file_behind_it(uninterrupted: Path) -> None:
    target, link = uninterrupted / "behind.jsonl", uninterrupted / "link.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    mh_batch(uninterrupted, "results", "-o", "link.jsonl")
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == len(CONVERSATIONS)
    assert target.stat().st_mode & 0o777 == 0o600


def test_many_interrupts_in_a_row_end_it_at_once_and_lose_nothing(
    tmp_path: Path, uninterrupted: Path, forks: Forks
) -> None:
    write_lines(tmp_path, CONVERSATIONS)
    mh_batch(tmp_path, "submit", "convos.jsonl")

    def insist(watched: Watched) -> None:
        # of one kind only one is ever pending, so that twenty of it could arrive as one
        for _ in range(20):
            watched.process.send_signal(signal.SIGINT)
            watched.process.send_signal(signal.SIGTERM)

    strike(tmp_path, in_the_middle_of_counting, insist, forks=forks)
    assert rows(tmp_path, "select count(*) from jobs where status = 'running'") == [(0,)]
    mh_batch(tmp_path, "work", "--model", "demo", code=1)
    assert rows(tmp_path, TOKENS) == rows(uninterrupted, TOKENS)


def test_an_old_batch_is_parsed_again_without_a_model(uninterrupted: Path) -> None:
    said = mh_batch(uninterrupted, "reparse").stdout
    assert "attempts parsed again: 0 differently" in said
    mh_batch(uninterrupted, "reparse", "nowhere", code=2)


def test_a_cancel_cuts_a_real_generation_short_and_keeps_the_turn_before(
    tmp_path: Path, forks: Forks
) -> None:
    turns = ["What is 17 + 25?", "Count from 1 to 300."]
    write_lines(tmp_path, [{"custom_id": "long", "turns": turns, "max_tokens": 2000}])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    said: list[str] = []
    strike(
        tmp_path,
        second_turn,
        lambda _: said.append(mh_batch_process(tmp_path, "cancel", "long").stderr),
        forks=forks,
    )
    assert said == ["job 1 (convos/long): 1 being stopped by the worker\n"]
    assert rows(tmp_path, "select status, cancel_requested from jobs") == [("cancelled", 0)]
    assert rows(tmp_path, "select turn, final from turns") == [(1, "17 + 25 = 42")]
    assert rows(tmp_path, "select turn, stop_reason from attempts") == [(1, "stop_token")]
    assert rows(tmp_path, "select count(*) from crashes") == [(0,)]
