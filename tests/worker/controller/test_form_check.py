"""The second look at an answer with a form, once it is there."""

from typing import Any

import pytest

from helpers.made import generation, stuck
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.generation import StopReason
from mh_batch.worker.controller.form_check import check_generation, has_form

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"$ref": "#/$defs/year"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"year": {"type": "integer", "minimum": 1000}},
}
FORM = Form("json_schema", PERSON)
GOOD = '{"name": "Ada", "born": 1815}'


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (GOOD, True),
        (f"\n{GOOD} ", True),
        ('{"name": "Ada", "born": 15}', False),
        ('{"born": 1815}', False),
        ('{"name": "Ada"', False),
        ("Ada", False),
        ("", False),
    ],
)
def test_an_answer_has_its_schema_or_not(text: str, good: bool) -> None:
    assert has_form(text, FORM) is good


@pytest.mark.parametrize(
    ("form", "text", "good"),
    [
        (Form("json_object"), "{}", True),
        (Form("json_object"), "[]", False),
        (Form("choice", ("yes", "no")), "no", True),
        (Form("choice", ("yes", "no")), "maybe", False),
        # expressions and grammars of the constraint are not those of Python
        (Form("regex", "[0-9]+"), "x", True),
        (Form("grammar", 'start: "a"'), "x", True),
    ],
)
def test_an_answer_has_its_other_form_or_not(form: Form, text: str, good: bool) -> None:
    assert has_form(text, form) is good


@pytest.mark.parametrize(
    ("schema", "text", "good"),
    [
        ({"type": "number", "multipleOf": 0.1}, "0.3", True),
        ({"type": "number", "multipleOf": 0.1}, "0.35", False),
        ({"type": "number", "multipleOf": 0.01}, "1e300", True),
        ({"type": "string", "pattern": r"^\p{L}+$"}, '"äö"', True),
        ({"type": "string", "pattern": r"^\p{L}+$"}, '"a1"', False),
        ({"type": "string", "pattern": r"^\W$"}, '"ä"', True),
        ({"type": "string", "pattern": "(?<wrong"}, '"x"', True),
        ({"type": "string", "pattern": "^(a|aa)+$"}, '"' + "a" * 40 + 'b"', True),
        ({"$ref": "#/$defs/none"}, "1", True),
        ({"type": "array"}, "[" * 2000 + "]" * 2000, True),
        ({"type": "number", "minimum": 5}, "1e999", True),
        ({"type": "integer"}, "9" * 5000, True),
        ({"type": "integer"}, "1e" + "9" * 30, True),
        (True, "1", True),
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                "minimum": 3,
                "exclusiveMinimum": True,
            },
            "3",
            False,
        ),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_only_the_constraint_can_tell_is_not_held_against_an_answer(
    schema: Any, text: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.engine.constraint.validation.answers.PATTERN_SECONDS", 0.5)
    assert has_form(text, Form("json_schema", schema)) is good


def test_an_answer_that_ended_without_its_form_is_not_well_formed() -> None:
    checked = check_generation(generation('{"name": 5}'), FORM).parse
    assert (checked.well_formed, checked.problems) == (False, ("form_violated",))
    assert checked.parsed(FORM) is None


def test_an_answer_in_its_form_is_as_it_was_and_has_its_json() -> None:
    made = generation(f" {GOOD}\n")
    assert check_generation(made, FORM) is made
    assert made.parse.parsed(FORM) == GOOD


def test_numbers_out_of_the_range_of_the_machine_are_stored_as_they_are_written() -> None:
    form = Form("json_schema", {"type": "array", "items": {"type": "number"}})
    text = f"[1e999,{'9' * 5000}]"
    made = generation(text)
    assert check_generation(made, form) is made
    assert made.parse.parsed(form) == text


@pytest.mark.parametrize("problems", [(), ("truncated",)])
def test_an_answer_that_was_cut_inside_its_form_is_told_apart(problems: tuple[str, ...]) -> None:
    cut = generation('{"name": "A', problems=problems, stop=StopReason.MAX_TOKENS)
    checked = check_generation(cut, FORM)
    assert checked.parse.problems == (*problems, "incomplete_form")
    assert check_generation(checked, FORM) == checked


@pytest.mark.parametrize(
    "made",
    [
        stuck(),
        generation("x", problems=("two_finals",)),
        generation("x", stop=StopReason.LOOP_DETECTED),
        generation("x", stop=StopReason.CONSTRAINT_FAILED),
        generation(None, call="f"),
    ],
    ids=["stuck", "malformed", "loop", "constraint", "call"],
)
def test_what_is_no_answer_in_a_form_is_left_as_it_is(made: Any) -> None:
    assert check_generation(made, FORM) is made


def test_without_a_form_nothing_is_looked_at() -> None:
    cut = generation("x", problems=("truncated",), stop=StopReason.MAX_TOKENS)
    assert check_generation(cut, None) is cut
    assert generation(GOOD).parse.parsed(None) is None
    assert generation("5").parse.parsed(Form("regex", "[0-9]")) is None
