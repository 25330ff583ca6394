"""On a terminal no command prints a character of the data that steers it; elsewhere data stays."""

import json
import os
import pty
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.command_line import call, mh_batch, write_lines

# one of each kind: C0, C1, delete, marks and turns of direction, ends of lines, tags, no width
STEERING = (
    "\x1b]0;owned\x07\x08\x9b31m\x7f\u200e\u200f\u061c\u202e\u2066\u2028\u2029\u200b\ufeff"
    "\U000e0041\U000e007f"
)
# a custom_id has no control characters, but these
TURNING = "id\u202e\u200f\u2028\U000e0041"
PASSED = "\n\t"
COMMANDS = [
    ("status",),
    ("status", "--json"),
    ("results",),
    ("results", "--format", "csv"),
    ("results", "--format", "csv", "--raw-csv"),
    ("results", "--format", "messages"),
    ("results", "--format", "sharegpt", "--status", "done,incomplete,failed"),
    ("show", "1"),
    ("show", "1", "--attempts"),
    ("query", "select * from jobs, turns, channels"),
    ("query", "--csv", f'select *, 1 as "a{TURNING}" from jobs, turns, channels, batches'),
    ("query", "--json", f'select *, 1 as "a{TURNING}" from jobs, turns, channels, batches'),
    ("query", "--recipe", "pairs"),
    ("timings",),
    ("timings", "1", "--json"),
    ("report", "-o", "-"),
    ("doctor", "--model", f"no{TURNING}/model", "--json"),
    ("submit", "convos.jsonl", "--check", "--model", "demo"),
    ("reparse",),
]


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database holds steering text wherever there may be text."""
    folder = tmp_path_factory.mktemp("steering")
    line = {"prompt": f"What is 2 + 3? {STEERING}", "custom_id": TURNING, "note": STEERING}
    write_lines(folder, [line, {"prompt": STEERING, "custom_id": f"b{TURNING}", "n": 2}])
    named = ("--name", f"night {STEERING}", "--set", "max_tokens=48", "--set", "max_attempts=1")
    mh_batch(folder, "submit", "convos.jsonl", *named)
    mh_batch(folder, "work", "--model", "demo", "--max-jobs", "1", code=None)
    db = sqlite3.connect(folder / "mh-batch.db")
    with db:
        db.execute("UPDATE turns SET final = ?1, analysis = ?1", (f"={STEERING}",))
        db.execute("UPDATE channels SET text = ?1, channel = channel || ?1", (STEERING,))
        db.execute("UPDATE attempts SET raw = ?1", (STEERING,))
        db.execute("UPDATE jobs SET error = ?1, error_code = ?1", (STEERING,))
    db.close()
    return folder


def on_terminal(folder: Path, *arguments: str) -> str:
    """Run a command whose standard output and error are a terminal without colours."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader, open(ours, "rb"):  # noqa: PTH123
        reading = reader.submit(lambda: b"".join(everything(ours)))
        with open(theirs, "w", encoding="utf-8") as terminal:  # noqa: PTH123
            plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "400"}
            ended = call(folder, arguments, (terminal, terminal), plain)
        printed = reading.result(timeout=60)
    assert ended in (0, 1, 3), printed
    # the terminal itself makes a return of every line's end
    return printed.decode("utf-8").replace("\r\n", "\n")


def everything(terminal: int) -> Iterator[bytes]:
    """What comes out of a terminal until its other end is closed."""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:
            return
        if not block:
            return
        yield block


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_terminal_is_not_steered_by_what_data_holds(
    steering: Path, arguments: tuple[str, ...]
) -> None:
    printed = on_terminal(steering, *arguments)
    assert printed.strip()
    found = set(STEERING + TURNING) - set("]0;owned31midb")
    assert not sorted(hex(ord(c)) for c in found & set(printed))
    unprintable = {c for c in printed if not c.isprintable()} - set(PASSED)
    assert not unprintable


@pytest.mark.parametrize(
    "arguments", [("results",), ("query", "--json", "select final from turns")], ids=" ".join
)
def test_json_on_a_terminal_says_the_same(steering: Path, arguments: tuple[str, ...]) -> None:
    piped = mh_batch(steering, *arguments).stdout
    shown = on_terminal(steering, *arguments)
    assert STEERING.replace("\x1b", "").replace("\x07", "").replace("\x08", "") not in shown
    assert [json.loads(line) for line in shown.splitlines()] == [
        json.loads(line) for line in piped.split("\n")[:-1]
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("results", "--format", "csv", "--raw-csv"),
        ("query", "--csv", "--raw-csv", "select final from turns"),
    ],
    ids=" ".join,
)
def test_into_a_pipe_and_a_file_the_data_goes_as_it_is(
    steering: Path, arguments: tuple[str, ...]
) -> None:
    assert f"={STEERING}" in mh_batch(steering, *arguments).stdout
    if arguments[0] == "results":
        mh_batch(steering, *arguments, "-o", "out.csv")
        assert f"={STEERING}" in (steering / "out.csv").read_text()


def test_a_row_of_csv_on_a_terminal_is_a_line(steering: Path) -> None:
    sql = "select 1 as a, 'x' as b union all select 2, '-y'"
    assert on_terminal(steering, "query", "--csv", sql) == "a,b\n1,x\n2,'-y\n"
    assert re.fullmatch(r"\{.*\}\n", on_terminal(steering, "query", "--json", "select 1 as a"))
