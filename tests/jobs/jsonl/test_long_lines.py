"""A large line is found wrong by the same rules as any other, and takes little memory."""

import json
import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mh_batch.jobs.errors import BadLine
from mh_batch.jobs.jsonl import json_checks, long_lines
from mh_batch.jobs.jsonl.fields import KNOWN_KEYS
from mh_batch.jobs.jsonl.lines import read_line
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import MAX_LINE_MIB

KEYS = ["prompt", "body", "messages", "tools", "mine", "a", "\\u0061", "\\ud83d\\ude00", "é", "x:y"]
NUMBERS = [
    *("0", "-1.5", "1e5", "1e308", "1e309", "-1E+400", "9" * 18, str(2**63), str(-(2**63))),
    *(
        str(2**64 - 1),
        str(2**64),
        str(-(2**63) - 1),
        "9" * 400 + ".5",
        "0." + "1" * 60,
        *("1e0000400", "1e-400", "-1E-0400", "0." + "0" * 400 + "1", "0e-400", "5e-324"),
    ),
]
TEXTS = [
    '""',
    '"a,[{]}:\\"\\\\"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\udc00x"',
    '"\\\\ud800"',
    '"\\\\\\ud800"',
    '"' + "9" * 40 + '"',
    '"1e999"',
    '"漢字"',
]
space = st.sampled_from(["", "", " ", "\t", "\r\n"])
scalars = st.sampled_from([*NUMBERS, *TEXTS, "true", "null"])


def composed(opening: str, parts: list[str], closing: str, gap: str) -> str:
    return opening + gap + f"{gap},{gap}".join(parts) + gap + closing


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(st.sampled_from(KEYS), space, inner).map(lambda m: f'"{m[0]}"{m[1]}:{m[2]}')
    return st.builds(composed, st.just("{"), st.lists(members, max_size=4), st.just("}"), space)


def arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(composed, st.just("["), st.lists(inner, max_size=4), st.just("]"), space)


def nested(depth: int, bracket: bool) -> str:
    opening, closing = ("[", "]") if bracket else ('{"k":', "}")
    return opening * depth + "1" + closing * depth


values = st.recursive(
    scalars | st.builds(nested, st.integers(120, 130), st.booleans()),
    lambda inner: arrays(inner) | objects(inner),
    max_leaves=12,
)


def kind(reason: str | None) -> str | None:
    """What is wrong, without where."""
    if reason is None:
        return None
    found = re.search("twice|half|beyond 64 bits|nested", reason)
    assert found is not None, reason
    return found[0]


@given(objects(values), space, space)
@example('{"a":1,"\\u0061":2}', "", "")
@example('{"a":"long enough","b":2,"a":"long enough"}', "", "")
@example('{"body":{"messages":[],"messages":[]}}', "", "")
@example('{"prompt":"x","mine":{"a":1,"a":2}}', "", "")
def test_a_large_line_is_judged_as_a_small_one(text: str, before: str, after: str) -> None:
    text = before + text + after
    small = kind(json_checks.find_error(text, KNOWN_KEYS))
    found = kind(long_lines.find_error(text.encode(), KNOWN_KEYS))
    # of several flaws each may find another one first
    assert (small is None) == (found is None), (small, found)


@given(st.text(alphabet='{}[]",:\\ u1e\n9', max_size=30))
def test_what_is_no_json_is_refused_and_never_an_exception(text: str) -> None:
    text = '{"prompt":"x","m":' + text
    judged = []
    for limit in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(long_lines, "LARGE", limit)
            judged.append(isinstance(read_line(1, text.encode()), BadLine))
    assert judged[0] == judged[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "x", "a": 1, "a": 2}', "a: the key is there twice"),
        ('{"body": {"messages": [], "my": 1, "my": 1}}', "body.my: the key is there twice"),
        (
            '{"messages": [{"role": "user", "content": "x", "role": "user"}]}',
            "messages: the key is there twice, at column 48",
        ),
        ('{"prompt": "x", "m": "\\ud800"}', "the line: half of a character"),
        ('{"prompt": "x", "m": [18446744073709551616]}', "m: a number beyond 64 bits"),
        ('{"body": {"messages": [], "n": 1e999}}', "body.n: a number beyond 64 bits"),
        ('{"prompt": "x", "m": [1e-999]}', "m: a number beyond 64 bits"),
        ('{"prompt": "x", "m": ' + "[" * 200 + "]" * 200 + "}", "m: nested more than 128 deep"),
        ('{"prompt": "x", "tools": ' + "[" * 200 + "]" * 200 + "}", "tools: nested more than 128"),
        ("{" + ",".join(f'"k{n}": 1' for n in range(10_001)) + "}", "more than 10,000 keys"),
        ('{"prompt": "x",}', "not JSON: "),
        ('["prompt"]', "not a JSON object: "),
        ('{"prompt": ', "not JSON: "),
    ],
)
def test_the_field_is_named(line: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lines, "LARGE", 0)
    read = read_line(3, line.encode())
    assert isinstance(read, BadLine)
    assert reason in read.reason


@pytest.mark.parametrize("at", [0, 1 << 20, (1 << 20) - 1, (3 << 20) - 2])
def test_a_byte_that_is_no_utf_8_is_told_with_its_place(at: int) -> None:
    content = bytearray("é".encode() * (3 << 19))
    content[at] = 0xFF
    line = b'{"prompt": "' + content + b'"}'
    read = read_line(1, line)
    assert isinstance(read, BadLine)
    with pytest.raises(UnicodeDecodeError) as caught:
        line.decode()
    start = caught.value.start
    assert read.reason == f"not UTF-8: byte 0x{line[start]:02x} at column {start + 1}"


def test_values_that_nothing_has_a_use_for_are_refused_before_they_are_made() -> None:
    turns = b'{"turns": [' + b'"",' * long_lines.MAX_VALUES + b'""]}'
    read = read_line(1, turns)
    assert read == BadLine(1, "turns: more than 1,048,576 values")
    text = b'{"turns": ["' + b",[{" * long_lines.MAX_VALUES + b'"]}'
    assert isinstance(read_line(1, text), JobLine)
    data = b'{"prompt": "x", "mine": [' + b"1," * long_lines.MAX_VALUES + b"1]}"
    assert isinstance(read_line(1, data), JobLine)


def test_the_pairs_of_a_history_are_counted_before_they_are_made() -> None:
    history = b'{"instruction": "x", "history": [' + b'["",""],' * 400_000 + b'["",""]]}'
    assert read_line(1, history) == BadLine(1, "history: more than 1,048,576 values")


@pytest.mark.parametrize("field", ["", '"tools": [', '"mine": 1, '])
def test_a_key_as_long_as_a_text_is_refused(field: str) -> None:
    key = f'"{"k" * long_lines.MAX_KEY_BYTES}": 1'
    inner = f"{field}{{{key}}}]" if field.endswith("[") else field + key
    read = read_line(1, f'{{"prompt": "x", {inner}}}'.encode())
    assert isinstance(read, BadLine)
    assert read.reason.endswith("a key longer than 1,048,576 bytes")


def test_what_is_read_is_the_same_on_either_side_of_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = json.dumps(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "é\u2028\ud83d\ude00"}]}
            ],
            "turns": ["a"],
            "tools": [{"function": {"name": "f", "parameters": {"x": [1, {"y": None}]}}}],
            "tool_results": {"f": 1.50},
            "temperature": 0.5,
            "mine": {"b": [2], "a": 1},
        }
    ).encode()
    small = read_line(1, text)
    monkeypatch.setattr(long_lines, "LARGE", 0)
    assert isinstance(small, JobLine)
    found = read_line(1, text)
    assert isinstance(found, JobLine)
    assert msgspec.json.encode(found) == msgspec.json.encode(small)
    assert MAX_LINE_MIB == 32
