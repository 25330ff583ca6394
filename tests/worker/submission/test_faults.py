"""Bad lines: one message for all with the same fault, in the order of the file."""

import json
from pathlib import Path

import pytest

from helpers.landed import land
from mh_batch.jobs.errors import BadLine, BadLines
from mh_batch.worker.submission import faults
from mh_batch.worker.submission.faults import Faults


def said(path: Path, lines: list[object]) -> list[str]:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadLines) as caught:
        land(path)
    assert len(caught.value.lines) == caught.value.total
    return str(caught.value).splitlines()


def test_a_file_of_no_known_shape_is_one_message_with_its_keys_and_the_cure(
    tmp_path: Path,
) -> None:
    lines: list[object] = [{"id": n, "Question": "x", "answer": "y"} for n in range(900)]
    lines += [{"other": 1}, {"prompt": 5}]
    (shape, prompt) = said(tmp_path / "in.jsonl", lines)
    assert shape.startswith("in.jsonl:1: no known shape: a line needs one of messages, ")
    assert shape.endswith(
        "; the keys are id, Question, answer, other: --map prompt=Question says which one to ask "
        "(901 lines: 1, 2, 3, …)"
    )
    assert prompt == "in.jsonl:902: prompt: Expected `str`, got `int`"


def test_the_cure_for_a_file_of_no_known_shape_works(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    (message,) = said(path, [{"id": 1, "problem": "What is 1 + 1?"}])
    pair = message.partition("--map ")[2].split()[0]
    (job,) = land(path, (pair,))
    assert job.asked == [("user", "What is 1 + 1?")]


def test_a_few_lines_are_named_each_and_many_together(tmp_path: Path) -> None:
    few: list[object] = [{"prompt": 1}, {"prompt": "x", "n": 0}] * 3
    assert [line.split(":")[1] for line in said(tmp_path / "in.jsonl", few)] == list("123456")
    (first, second) = said(tmp_path / "in.jsonl", few + few)
    assert first == "in.jsonl:1: prompt: Expected `str`, got `int` (6 lines: 1, 3, 5, …)"
    assert second.startswith("in.jsonl:2: n: ")


def test_memory_for_different_faults_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "MOST_KINDS", 2)
    monkeypatch.setattr(faults, "SHOWN_LINES", 3)
    found = Faults("in.jsonl")
    for number in range(1, 8):
        found.add(BadLine(number, f"fault {number}"))
    found.add(BadLine(8, "fault 1"))
    error = found.error()
    assert [line.number for line in error.lines] == [1, 2, 3]
    assert str(error).splitlines() == [
        "in.jsonl:1: fault 1",
        "in.jsonl:2: fault 2",
        "in.jsonl:8: fault 1",
        "in.jsonl: and 5 more bad lines",
    ]
