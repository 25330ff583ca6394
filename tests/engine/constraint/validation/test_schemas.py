"""Schemas that finished texts are checked by."""

from typing import Any

import pytest

from mh_batch.engine.constraint.check import check_schema
from mh_batch.engine.constraint.validation.answers import find_error
from mh_batch.jobs.errors import SettingsError


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            {"type": "strin"},
            "not a JSON schema: 'strin' is not valid under any of the given schemas (at $.type)",
        ),
        ({"properties": {"a": {"pattern": "("}}}, "'(' is not a 'regex'"),
        ({"minimum": "low"}, "'low' is not of type 'number' (at $.minimum)"),
        ({"$ref": "#/$defs/none"}, "$ref #/$defs/none: refers to nothing in this schema"),
        ({"items": {"$ref": "https://example.org/a.json"}}, "nothing is downloaded"),
        ({"$ref": "#"}, "it refers to itself without an end"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any], reason: str) -> None:
    # the second time it is known
    for _ in range(2):
        with pytest.raises(SettingsError) as refused:
            check_schema(schema)
        assert reason in str(refused.value)


def test_references_inside_a_schema_and_data_that_look_like_them_are_fine() -> None:
    tree = {
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}, "type": "object"}},
        "$ref": "#/$defs/node",
        "examples": [{"$ref": "https://example.org"}],
        "properties": {"$ref": {"type": "string"}},
    }
    check_schema(tree)
    assert find_error(tree, '{"next": {"next": {}}}') is None
    assert find_error(tree, '{"next": {"next": 1}}')
    check_schema({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}},
                  "$ref": "#/definitions/a"})  # fmt: skip
    check_schema({"$id": "https://example.org/root", "$anchor": "top", "items": {"$ref": "#top"}})
    check_schema({"pattern": r"^\p{L}+$"})
    check_schema(True)


def test_the_schemas_of_schemas_are_known_without_a_download() -> None:
    schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    check_schema(schema)
    assert find_error(schema, '{"type": "array"}') is None
    assert find_error(schema, '{"type": "arr"}')
