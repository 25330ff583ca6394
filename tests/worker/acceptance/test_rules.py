"""The rules of the setting `accept`, applied to texts."""

import pytest

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.worker.acceptance.rules import broken_rule

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


def test_a_schema_without_end_gives_a_reason_and_no_error() -> None:
    rules = AcceptRules(json_schema={"$ref": "#"})
    assert "cannot be checked" in (broken_rule(rules, "{}") or "")


@pytest.mark.parametrize(
    ("schema", "text", "reason"),
    [
        ({"multipleOf": 0.01}, "0.29", None),
        ({"multipleOf": 0.1}, "0.35", "$: 0.35 is not a multiple of 0.1"),
        ({"pattern": r"^\p{Lu}"}, '"Ä"', None),
        ({"pattern": "^(a|aa)+$"}, '"' + "a" * 40 + 'b"', "regular expressions took longer than"),
        ({"type": "integer"}, "9" * 5000, None),
    ],
    ids=["multiple", "none", "class", "slow", "long"],
)
def test_a_schema_is_checked_as_that_of_a_form_is_and_what_cannot_be_told_is_rejected(
    schema: dict[str, object], text: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.engine.constraint.validation.answers.PATTERN_SECONDS", 0.01)
    broken = broken_rule(AcceptRules(json_schema=schema), text)
    assert broken is None if reason is None else reason in (broken or "")
