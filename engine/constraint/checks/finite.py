"""Whether a JSON schema has a finite value: one that requires itself has none."""

from collections.abc import Mapping, Set
from typing import Any
from urllib.parse import unquote

from mh_batch.engine.constraint.schema_places import escape_pointer, places

_Schemas = Mapping[str, Any]

ENDLESS = "it refers to itself without an end: no value fulfils it"


def can_end(schema: Any) -> bool:
    """Whether some finite value may fulfil a schema, as far as its references decide it.

    A list whose `next` is required and is another such list has only infinite values. What has a
    finite one is found step by step, from the schemas that refer to no other.
    """
    schemas = {place.pointer: place.schema for place in places(schema)}
    ending: set[str] = set()
    waiting = list(reversed(schemas))
    while "" not in ending:
        before = len(ending)
        for at in waiting:  # those inside come first
            if _ends(at, schemas, ending):
                ending.add(at)
        if len(ending) == before:
            return False
        waiting = [at for at in waiting if at not in ending]
    return True


def _ends(at: str, schemas: _Schemas, ending: Set[str]) -> bool:
    """Whether the schema at `at` has a finite value, if those at `ending` have one."""
    schema = schemas[at]
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return True
    if (target := _target(schema.get("$ref"), schemas)) is not None and target not in ending:
        return False
    if not all(f"{at}/allOf/{i}" in ending for i in range(_count(schema, "allOf"))):
        return False
    for keyword in ("anyOf", "oneOf"):
        count = _count(schema, keyword)
        if count and not any(f"{at}/{keyword}/{i}" in ending for i in range(count)):
            return False
    kinds = schema.get("type", "null")
    shapes = {"object": _object_ends, "array": _array_ends}
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return any(kind not in shapes or shapes[kind](at, schema, ending) for kind in kinds)


def _object_ends(at: str, schema: dict[str, Any], ending: Set[str]) -> bool:
    properties = schema.get("properties", {})
    required = (name for name in schema.get("required", ()) if name in properties)
    return all(f"{at}/properties/{escape_pointer(name)}" in ending for name in required)


def _array_ends(at: str, schema: dict[str, Any], ending: Set[str]) -> bool:
    # `items` is a list in older drafts, and `additionalItems` are those behind it
    old = isinstance(schema.get("items"), list)
    firsts, others = ("items", "additionalItems") if old else ("prefixItems", "items")
    least, first = schema.get("minItems", 0), _count(schema, firsts)
    if not all(f"{at}/{firsts}/{i}" in ending for i in range(min(least, first))):
        return False
    return least <= first or others not in schema or f"{at}/{others}" in ending


def _count(schema: dict[str, Any], keyword: str) -> int:
    return len(schema.get(keyword, ()))


def _target(reference: Any, schemas: _Schemas) -> str | None:
    """Return where a reference leads, `None` if that is not one of the places known here."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    place = unquote(reference[1:])
    if place in schemas:
        return place
    anchors = (at for at, s in schemas.items() if isinstance(s, dict) and s.get("$anchor") == place)
    return next(anchors, None)
