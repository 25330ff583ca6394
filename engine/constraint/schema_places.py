"""The schemas inside a JSON schema."""

from collections.abc import Iterator
from typing import Any, NamedTuple

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "items", "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if",
    "not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip


class Place(NamedTuple):
    """A schema inside a schema, and the JSON pointer to it."""

    pointer: str
    schema: Any


def places(schema: Any, pointer: str = "") -> Iterator[Place]:
    """Yield a schema and all schemas in it, at their places."""
    waiting = [Place(pointer, schema)]
    while waiting:
        place = waiting.pop()
        yield place
        waiting += reversed(list(_inside(place)))


def _inside(place: Place) -> Iterator[Place]:
    if not isinstance(place.schema, dict):
        return
    for keyword, value in place.schema.items():
        at = f"{place.pointer}/{escape_pointer(keyword)}"
        if keyword in _NAMED and isinstance(value, dict):
            yield from (
                Place(f"{at}/{escape_pointer(name)}", inner) for name, inner in value.items()
            )
        elif keyword in (*_LISTED, "items") and isinstance(value, list):
            yield from (Place(f"{at}/{index}", inner) for index, inner in enumerate(value))
        elif keyword in _SINGLE:
            yield Place(at, value)


def escape_pointer(name: str) -> str:
    """Return a name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def shown(pointer: str) -> str:
    """Return a place as it stands behind a message."""
    return f" (at {pointer or 'the top'})"
