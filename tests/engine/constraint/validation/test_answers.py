"""Finished texts against JSON schemas: by the published suite, and where numbers are large."""

import json
import time
from typing import Any

import pytest

from helpers.paths import ROOT
from mh_batch.engine.constraint.validation import answers
from mh_batch.engine.constraint.validation.answers import SchemaFault, find_error

SUITE = ROOT / "tests" / "corpora" / "json_schema_suite"
OURS = ("additionalProperties", "multipleOf", "pattern", "patternProperties", "type", "anchor")
SLOW = "^(a|aa)+$"
HARD = "a" * 60 + "b"


@pytest.mark.parametrize("name", OURS)
def test_the_published_suite_agrees_where_the_keyword_is_our_own(name: str) -> None:
    for case in json.loads((SUITE / f"{name}.json").read_text()):
        for test in case["tests"]:
            error = find_error(case["schema"], json.dumps(test["data"]))
            assert (error is None) is test["valid"], (case["description"], test["description"])


@pytest.mark.parametrize(
    ("step", "text", "multiple"),
    [
        (0.01, "0.29", True),
        (0.01, "0.295", False),
        (0.01, "1e300", True),
        (7, "1e999999999", False),
        (2, "1e999999999", True),
        (0.5, "1e-999999999", False),
        (3, "0e-999999999", True),
        (3, "-9", True),
        (1e-300, "5e-300", True),
        (10, "9" * 5000, False),
        (9, "9" * 5000, True),
    ],
)
def test_multiples_are_exact_however_large_the_number(
    step: float, text: str, multiple: bool
) -> None:
    assert (find_error({"multipleOf": step}, text) is None) is multiple


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        (True, "NaN", "the text is not JSON: NaN is no number"),
        (True, "{", "the text is not JSON: Expecting property name"),
        ({"type": "integer"}, "1.50", "$: 1.50 is not of type 'integer'"),
        ({"properties": {"a": {"maximum": 3.5}}}, '{"a": 1e999}', "$.a: 1E+999 is greater than"),
        ({"enum": ["x" * 500]}, '"y"', "…"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_as_it_is_written(
    schema: Any, text: str, reason: str
) -> None:
    fault = find_error(schema, text)
    assert fault is not None
    assert fault.certain
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        ({"$ref": "#"}, "1", "nested too deeply"),
        (True, "[" * 5000 + "]" * 5000, "nested too deeply"),
        (True, "1e" + "9" * 30, "a number is out of range"),
        ({"$ref": "#/$defs/none"}, "1", "/$defs/none"),
        ({"$ref": "https://example.org/a.json"}, "1", "https://example.org/a.json"),
        ({"pattern": "("}, '"x"', "missing )"),
        ({"pattern": SLOW}, f'"{HARD}"', "took longer than 0.01 s"),
        ({"patternProperties": {SLOW: {}}}, f'{{"{HARD}": 1}}', "took longer"),
        (
            {"patternProperties": {SLOW: {}}, "additionalProperties": False},
            f'{{"{HARD}": 1}}',
            "took longer",
        ),
    ],
    ids=["schema", "text", "number", "reference", "remote", "bad", "pattern", "names", "others"],
)
def test_what_cannot_be_told_is_no_certain_fault(
    schema: Any, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PATTERN_SECONDS", 0.01)
    fault = find_error(schema, text)
    assert fault is not None
    assert not fault.certain
    assert reason in fault.reason


def test_the_expressions_of_a_schema_have_their_time_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "PATTERN_SECONDS", 0.05)
    began = time.process_time()
    fault = find_error({"items": {"pattern": SLOW}}, json.dumps([HARD] * 1000))
    assert fault is not None
    # each alone would have had as long
    assert time.process_time() - began < 5


def test_a_fault_that_was_found_before_the_time_was_over_is_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "PATTERN_SECONDS", 0.01)
    schema = {"items": {"pattern": SLOW}}
    assert find_error(schema, json.dumps(["x", HARD])) == SchemaFault(
        f"$[0]: 'x' does not match {SLOW!r}"
    )
