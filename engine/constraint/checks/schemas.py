"""What llguidance does not see in a JSON schema, found by reading it."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from mh_batch.engine.constraint.schema_places import places, shown

from .finite import ENDLESS, can_end
from .keywords import unknown_keyword
from .trial import PAST_LIMITS

_MOST_TRIED = 100
_NAMED = ("$schema", "$defs", "definitions")
_OWN_OPTIONS = ("x-guidance", "lenient")
_NEEDS_HEX = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f]")


def find_fault(schema: Any) -> str | None:
    """Return why a schema is refused that llguidance takes, `None` if it is not.

    Its own options in a schema could switch checks off. It writes no `\\u` escapes here. It does
    not see that the same key came twice. And it begins a value that can never end.
    """
    for place in places(schema):
        if isinstance(place.schema, dict) and (found := _local_fault(place.schema)):
            return f"{found}{shown(place.pointer)}"
    return unknown_keyword(schema) or (None if can_end(schema) else ENDLESS)


def _local_fault(schema: dict[str, Any]) -> str | None:
    for keyword in _OWN_OPTIONS:
        if keyword in schema:
            return f"{keyword!r} is not supported"
    values = [schema[keyword] for keyword in ("const", "enum") if keyword in schema]
    if any(_NEEDS_HEX.search(text) for text in _texts(values)):
        return "control characters in const or enum are not supported"
    least, required = schema.get("minProperties", 0), schema.get("required", [])
    if isinstance(least, int) and isinstance(required, list) and least > len(set(required)) + 1:
        return "minProperties is not supported above the number of required properties + 1"
    return None


def explain(schema: Any, reason: str, find_reason: Callable[[Any], str | None]) -> str:
    """Return what llguidance says against a schema, in a user's words and with the place.

    `find_reason` returns what it says against another schema, `None` if it takes that.
    """
    if found := re.match(r"Unimplemented keys: (\[.*\])", reason):
        keywords = json.loads(found[1])
        return f"{', '.join(keywords)}: not supported{_where(schema, keywords[0])}"
    if found := re.match(r"Unknown format: (.*)", reason):
        return f"format {found[1]!r} is not supported{_where(schema, 'format', found[1])}"
    if reason.startswith("oneOf constraints are not supported"):
        where = _where(schema, "oneOf")
        return f"oneOf is supported only where no two alternatives overlap; see anyOf{where}"
    if found := re.match(r"Resource '(.*?)'", reason):
        return f"a reference to another document is not supported: {found[1]}"
    if found := re.match(r"Pointer '(.*?)' does not exist", reason):
        where = _where(schema, "$ref", f"#{found[1]}")
        return f"$ref #{found[1]} refers to nothing in this schema{where}"
    return f"cannot be kept to: {reason}{shown(_innermost(schema, reason, find_reason))}"


def _where(schema: Any, keyword: str, value: Any = None) -> str:
    """Return where `keyword` stands first (with `value`, if that is given), to be shown."""
    for pointer, inner in places(schema):
        if isinstance(inner, dict) and keyword in inner and value in (None, inner[keyword]):
            return shown(pointer)
    return ""


def _innermost(schema: Any, reason: str, find_reason: Callable[[Any], str | None]) -> str:
    """Return the place of the smallest schema in `schema` that is refused for the same reason."""
    if not isinstance(schema, dict) or reason.startswith(PAST_LIMITS):
        return ""
    named = {key: schema[key] for key in _NAMED if key in schema}
    for pointer, inner in reversed(tuple(islice(places(schema), 1, _MOST_TRIED))):
        if isinstance(inner, dict) and find_reason(named | inner) == reason:
            return str(pointer)
    return ""


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(items):
                waiting += items
            case dict(members):
                waiting += members.keys()
                waiting += members.values()
