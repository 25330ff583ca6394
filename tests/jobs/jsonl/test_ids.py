"""The ids of files of others: which key has them, and of what kind they may be."""

import json
from typing import Any

import pytest

from mh_batch.jobs.jsonl.ids import MAX_ID_CHARS, IdKey
from mh_batch.jobs.jsonl.lines import read_line
from mh_batch.jobs.record import JobLine


def own_ids(*lines: dict[str, Any]) -> list[str | None]:
    """The ids that the lines of one file get."""
    ids, found = IdKey(), []
    for number, line in enumerate(lines, start=1):
        read = read_line(number, json.dumps({"prompt": "x", **line}).encode(), ids=ids)
        assert isinstance(read, JobLine)
        assert read.custom_id == line.get("custom_id") or read.custom_id == f"line-{number}"
        found.append(read.own_id)
    return found


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ({"question_id": 81}, "81"),
        ({"id": "identity_0"}, "identity_0"),
        ({"task_id": "HumanEval/0"}, "HumanEval/0"),
        ({"task_id": "t", "id": 3, "question_id": 5}, "5"),
        ({"id": -3}, "-3"),
        ({"id": "x" * MAX_ID_CHARS}, "x" * MAX_ID_CHARS),
        ({"id": "x" * (MAX_ID_CHARS + 1)}, None),
        ({"id": ""}, None),
        ({"id": "a\nb"}, None),
        ({"id": None}, None),
        ({"id": 1.5}, None),
        ({"id": True}, None),
        ({"id": ["a"]}, None),
        ({"ident": "a"}, None),
        ({"custom_id": "mine", "id": "a"}, None),
    ],
)
def test_an_id_is_a_text_or_an_integer_of_a_line_without_a_custom_id(
    line: dict[str, Any], own: str | None
) -> None:
    assert own_ids(line) == [own]


def test_the_first_line_says_which_key_has_the_ids() -> None:
    assert own_ids({"id": 1}, {"question_id": 2}, {"id": 3, "question_id": 4}) == ["1", None, "3"]
    assert own_ids({"custom_id": "a", "id": 1}, {"id": 2}) == [None, None]


def test_an_id_stays_in_the_metadata() -> None:
    read = read_line(1, b'{"prompt": "x", "id": 7, "a": 1}', ids=IdKey())
    assert isinstance(read, JobLine)
    assert json.loads(bytes(read.metadata or b"")) == {"id": 7, "a": 1}
