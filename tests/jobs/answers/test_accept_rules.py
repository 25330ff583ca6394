"""The setting `accept`: which rules are taken, and what is refused at once."""

import msgspec
import pytest

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import Settings, apply


def test_rules_are_a_setting_from_a_line_a_command_line_and_the_database() -> None:
    given = {"regex": r"\d+", "full_match": True, "not_regex": ["sorry", "(?i)as an ai"]}
    settings = apply(Settings(), {"accept": given})
    rules = AcceptRules(regex=r"\d+", full_match=True, not_regex=("sorry", "(?i)as an ai"))
    assert settings.output.accept == rules
    text = msgspec.json.encode(given).decode()
    assert apply(Settings(), {"accept": text}, text=True) == settings
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
    assert apply(settings, {"accept": None}).output.accept is None


def test_one_forbidden_expression_needs_no_list() -> None:
    assert AcceptRules(not_regex="sorry").forbidden == ("sorry",)
    assert AcceptRules().forbidden == ()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"regex": "(a"}, "regex: not a regular expression: missing ), unterminated subpattern"),
        ({"not_regex": ["fine", "[z-a]"]}, "not_regex: not a regular expression: bad character"),
        ({"min_chars": 5, "max_chars": 3}, "min_chars 5 is above max_chars 3"),
        ({"min_chars": -1}, "Expected `int` >= 0"),
        ({"full_match": True}, "full_match goes with regex"),
        ({"regex": ""}, "length >= 1"),
        ({"rejex": "a"}, "unknown field `rejex`"),
        ({"json_schema": "object"}, "json_schema"),
        ("fine", "Expected `object | null`"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused_with_the_reason(rules: object, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        apply(Settings(), {"accept": rules})
    assert str(refused.value).startswith("accept: ")
    assert reason in str(refused.value)
