"""Which keywords of a JSON schema are refused because they would say nothing."""

from typing import Any

import pytest
from jsonschema.validators import Draft4Validator, Draft7Validator, Draft202012Validator

from mh_batch.engine.constraint.check import check_schema
from mh_batch.engine.constraint.checks.keywords import unknown_keyword
from mh_batch.jobs.errors import SettingsError

DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"maxlength": 3}, "not a keyword of JSON Schema; did you mean maxLength? (at the top)"),
        ({"colour": "red"}, "not a keyword of JSON Schema; a remark of your own begins with x-"),
        ({"nullable": True}, 'not a keyword of JSON Schema; write "type": [..., "null"]'),
        ({"divisibleBy": 2}, "not a keyword of JSON Schema; write multipleOf"),
        ({"additionalItems": False}, "not a keyword of this draft of JSON Schema; write items"),
        (DRAFT_7 | {"prefixItems": [{}]}, "not a keyword of this draft of JSON Schema"),
        (DRAFT_4 | {"const": 1}, "not a keyword of this draft of JSON Schema"),
    ],
)
def test_a_keyword_that_says_nothing_is_named(schema: dict[str, Any], reason: str) -> None:
    keyword = next(key for key in schema if key != "$schema")
    assert f"{keyword}: {reason}" in (unknown_keyword(schema) or "")


@pytest.mark.parametrize(
    "schema",
    [
        Draft4Validator.META_SCHEMA,
        Draft7Validator.META_SCHEMA,
        Draft202012Validator.META_SCHEMA,
        {"title": "A", "description": "b", "examples": [{"colour": 1}], "x-order": 3},
        {"properties": {"colour": {"default": {"colour": 1}}}, "$defs": {"colour": {}}},
        {"oneOf": [{"enum": [{"colour": 1}]}], "discriminator": {"propertyName": "kind"}},
        {"nullable": False, "deprecated": True, "readOnly": True, "$comment": ""},
        {"if": {}, "then": {}, "contains": {}, "minContains": 2},
        DRAFT_4 | {"id": "http://example.com/a", "minimum": 3, "exclusiveMinimum": True},
        DRAFT_7 | {"items": [{}], "additionalItems": False, "dependencies": {"a": ["b"]}},
        True,
    ],
)
def test_a_keyword_of_the_draft_and_a_remark_are_known(schema: Any) -> None:
    assert unknown_keyword(schema) is None


def test_a_schema_that_checks_answers_has_no_unknown_keyword_either() -> None:
    check_schema({"not": {"type": "null"}, "x-mine": 1})
    with pytest.raises(SettingsError, match=r"requird: .* did you mean required\? \(at /not\)"):
        check_schema({"not": {"requird": ["a"]}})
