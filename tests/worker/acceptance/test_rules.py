"""The rules of the setting `accept`, applied to texts."""

import pytest

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import SettingsError
from mh_batch.worker.acceptance.rules import broken_rule, check_schema

RECORD = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("rules", "kept", "broken"),
    [
        ({"min_chars": 3}, ["abc", "äöü"], ["ab", ""]),
        ({"max_chars": 3}, ["abc", ""], ["abcd"]),
        ({"regex": r"\d"}, ["a1b"], ["ab"]),
        ({"regex": r"\d+", "full_match": True}, ["12"], ["12 ", "12\n", "a12"]),
        ({"not_regex": "(?i)sorry"}, ["fine"], ["I am SORRY."]),
        ({"not_regex": ["a", "b"]}, ["c"], ["cab", "b"]),
        (
            {"json_schema": RECORD},
            ['{"name": "Ada"}', ' {"name": "Ada", "age": 36}\n'],
            ["Ada", '{"age": 36}', '{"name": "Ada", "x": 1}', '{"name": NaN}', '"Ada"', ""],
        ),
        ({"json_schema": True}, ["1", "null"], ["NaN", "{"]),
        ({}, ["", "anything"], []),
    ],
)
def test_a_text_keeps_the_rules_or_is_told_which_it_breaks(
    rules: dict[str, object], kept: list[str], broken: list[str]
) -> None:
    accept = AcceptRules(**rules)  # type: ignore[arg-type]
    assert [broken_rule(accept, text) for text in kept] == [None] * len(kept)
    assert all(broken_rule(accept, text) for text in broken)


def test_the_reason_names_what_the_model_can_mend() -> None:
    def reason(text: str, **rules: object) -> str | None:
        return broken_rule(AcceptRules(**rules), text)  # type: ignore[arg-type]

    assert reason("ab", min_chars=3) == "it has 2 characters and must have at least 3"
    assert reason("x", regex=r"\d") == r"it must contain a match of the regular expression \d"
    found = reason('{"name": "Ada", "age": "old"}', json_schema=RECORD)
    assert found == "JSON schema: $.age: 'old' is not of type 'integer'"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "$.type: 'strin' is not valid under any of the given schemas"),
        ({"properties": {"a": {"pattern": "("}}}, "$.properties.a.pattern: '(' is not a 'regex'"),
        ({"minimum": "low"}, "$.minimum: 'low' is not of type 'number'"),
        ({"$ref": "#/$defs/none"}, "$ref #/$defs/none: refers to nothing in this schema"),
        ({"items": {"$ref": "https://example.org/a.json"}}, "nothing is downloaded"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_schema(schema)
    assert str(refused.value).startswith("accept: json_schema: ")
    assert reason in str(refused.value)


def test_references_inside_a_schema_and_data_that_look_like_them_are_fine() -> None:
    tree = {
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}, "type": "object"}},
        "$ref": "#/$defs/node",
        "examples": [{"$ref": "https://example.org"}],
        "properties": {"$ref": {"type": "string"}},
    }
    check_schema(tree)
    rules = AcceptRules(json_schema=tree)
    assert broken_rule(rules, '{"next": {"next": {}}}') is None
    assert broken_rule(rules, '{"next": {"next": 1}}')
    check_schema({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}},
                  "$ref": "#/definitions/a"})  # fmt: skip
    check_schema({"$id": "https://example.org/root", "$anchor": "top", "items": {"$ref": "#top"}})


def test_a_schema_without_end_gives_a_reason_and_no_error() -> None:
    rules = AcceptRules(json_schema={"$ref": "#"})
    assert "cannot be checked" in (broken_rule(rules, "{}") or "")
