"""Which texts have a form."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.grammars import accepts, matcher, of_form, of_schema, reads_all
from mh_batch.engine.constraint.check import check_form
from mh_batch.jobs.answers.forms import Form

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
    "required": ["x"],
}


@pytest.mark.parametrize(
    ("form", "texts", "others"),
    [
        (Form("json_schema", POINT), ['{"x": 1}', '{"x":1,"y":2,"z":[null]}', '{\n  "x": 1\n}'],
         ['{"x": "1"}', '{"y": 1}', '{"x": 1', ' {"x": 1}', '{"x": 1} ', '{"x":  1}', "1"]),
        (Form("json_schema", True), ["1", '"a"', "[]"], ["a", ""]),
        (Form("json_object"), ["{}", '{"a": [1, {"b": null}]}'], ["[]", "1", "null", "{", "{}}"]),
        (Form("json_object", whitespace_pattern=""), ['{"a":1}'], ['{"a": 1}', "{ }"]),
        (Form("json_object", whitespace_pattern=r"[ \n]{0,3}"), ["{   }", '{"a":\n\n1}'],
         ["{    }", "{\t}"]),
        (Form("regex", r"\d+ (apples|pears)?"), ["3 apples", "12 "],
         ["3", "x3 apples", "3 apples "]),
        (Form("regex", "^a|b$"), ["a", "b"], ["ab", "a|b"]),
        (Form("regex", "a?"), ["a"], [""]),
        (Form("regex", r"\s*[.\s]"), ["  .", "."], [" ", "\n "]),
        (Form("regex", "a/b\n\x7f[/]"), ["a/b\n\x7f/"], ["a"]),
        (Form("choice", ("yes", "no", "not at all")), ["yes", "no", "not at all"],
         ["not", "y", ""]),
        (Form("grammar", 'start: "a" start "b" | "c"'), ["c", "aacbb"], ["", "ac", "acbb"]),
    ],
)  # fmt: skip
def test_a_form_has_these_texts_and_no_others(
    form: Form, texts: list[str], others: list[str]
) -> None:
    check_form(form)
    reads = matcher(of_form(form))
    assert [text for text in texts if not reads_all(reads, text)] == []
    assert [text for text in others if reads_all(reads, text)] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4, unique=True))
def test_any_texts_can_be_choices(choices: list[str]) -> None:
    reads = matcher(of_form(Form("choice", tuple(choices))))
    assert all(reads_all(reads, choice) for choice in choices)
    assert not reads_all(reads, "".join(choices) + "x")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        # the key is `a`, so its value is to be an integer
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, r'{"\u0061": "x"}'),
        ({"type": "object", "properties": {"\n": {"type": "integer"}}}, r'{"\u000a": "x"}'),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": 1, "a": "x"}'),
        ({"type": "string"}, r'"\ud800"'),
    ],
)
def test_json_that_reads_otherwise_than_it_is_written_is_not_allowed(
    schema: dict[str, Any], text: str
) -> None:
    json.loads(text)
    assert not accepts(of_schema(schema), text)


def test_a_form_does_not_end_before_it_is_complete() -> None:
    made = matcher(of_schema(POINT))
    for at, byte in enumerate(b'{"x": 12}'):
        assert made.is_accepting() == (at == 9)
        assert made.consume_token(byte)
    assert made.is_accepting()
