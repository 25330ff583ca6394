"""Whether a finished text can be checked by a schema: whether that is one, and complete."""

import functools
from collections.abc import Iterator
from typing import Any

import regex
from jsonschema import FormatChecker
from jsonschema.exceptions import best_match
from jsonschema.validators import SPECIFICATIONS
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from .validators import draft_of

# under these keys of a schema are values, not schemas
_VALUES = frozenset({"const", "default", "enum", "examples"})


def metaschema_fault(schema: Any, *, expressions: bool = False) -> str | None:
    """Return why something is no JSON schema of its draft, `None` if it is one.

    With `expressions`, what is no regular expression of this program's checks is a fault too.
    """
    draft = draft_of(schema)
    metaschema = draft_of(draft.META_SCHEMA)(
        draft.META_SCHEMA, format_checker=_expressions() if expressions else None
    )
    try:
        error = best_match(metaschema.iter_errors(schema))
    except RecursionError:
        return "the schema is nested too deeply"
    if error is None:
        return None
    return f"not a JSON schema: {error.message} (at {error.json_path})"


def checking_fault(schema: dict[str, Any] | bool) -> str | None:
    """Return why finished texts cannot be checked by a schema, `None` if they can."""
    if (reason := metaschema_fault(schema, expressions=True)) is not None:
        return reason
    for reference in _references(schema):
        if not _resolves(schema, reference):
            return f"$ref {reference}: refers to nothing in this schema, and nothing is downloaded"
    return None


@functools.cache
def _expressions() -> FormatChecker:
    """Return a checker of regular expressions alone: those that `regex` reads."""

    def is_expression(value: object) -> bool:
        return not isinstance(value, str) or bool(regex.compile(value))

    checker = FormatChecker(formats=())
    checker.checks("regex", raises=regex.error)(is_expression)
    return checker


def _references(schema: object) -> Iterator[str]:
    """Yield every `$ref` of a schema."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            elif key not in _VALUES:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _resolves(schema: dict[str, Any] | bool, reference: str) -> bool:
    metaschema = draft_of(schema).META_SCHEMA
    draft = specification_with(metaschema["$schema"], default=DRAFT202012)
    root = draft.create_resource(schema)
    registry = SPECIFICATIONS.with_resource(root.id() or "", root).crawl()
    try:
        registry.resolver(root.id() or "").lookup(reference)
    except Unresolvable:
        return False
    return True
