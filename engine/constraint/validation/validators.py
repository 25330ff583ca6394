"""The validator of a JSON schema: exact numbers, expressions with a limit of time, no downloads."""

import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import regex
from jsonschema import ValidationError, validators
from jsonschema.protocols import Validator
from jsonschema.validators import (
    SPECIFICATIONS,
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)

from . import exact_json

DRAFTS: tuple[type[Validator], ...] = (
    Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator,
)  # fmt: skip
"""The validators of all drafts that people still write."""
_MOST_KEPT = 16
_pattern_end: ContextVar[float] = ContextVar("_pattern_end")


class PatternTimeoutError(Exception):
    """The regular expressions of a schema took too long for a text."""


@contextmanager
def pattern_limit(seconds: float) -> Iterator[None]:
    """Let all expressions that are searched in the block take `seconds` together."""
    token = _pattern_end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _pattern_end.reset(token)


def draft_of(schema: Any) -> type[Validator]:
    """Return the library's validator of the draft that `$schema` names, else of 2020-12."""
    draft: type[Validator] = validators.validator_for(schema, default=Draft202012Validator)
    return draft


def validator_of(schema: dict[str, Any] | bool) -> Validator:
    """Return the validator of a schema, for values of `exact_json.decode`.

    It raises `PatternTimeoutError` behind the `pattern_limit`, `regex.error` for an expression
    that it cannot read, and `referencing.exceptions.Unresolvable` for a `$ref` to another document.
    """
    return _validator(json.dumps(schema))


# the answers of a batch have few schemas between them
@functools.lru_cache(_MOST_KEPT)
def _validator(schema_text: str) -> Validator:
    schema = exact_json.decode(schema_text)
    # without a registry of its own, it would download what `$ref` names
    draft: Any = draft_of(schema)
    return _exact_kind(draft)(schema, registry=SPECIFICATIONS)


@functools.cache
def _exact_kind(draft: type[Validator]) -> type[Validator]:
    types = draft.TYPE_CHECKER.redefine("integer", lambda _, value: exact_json.is_integer(value))
    keywords = {
        "pattern": _pattern,
        "multipleOf": _multiple_of,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    known = {name: keyword for name, keyword in keywords.items() if name in draft.VALIDATORS}
    kind: type[Validator] = validators.extend(draft, known, type_checker=types)
    return kind


def _finds(pattern: str, text: str) -> bool:
    """Search a text; the library's own search knows no Unicode classes, and has no limit of time.

    Classes such as `\\w` are those of ASCII or of Unicode: what is found by either one is found.
    """
    for flags in (regex.UNICODE, regex.ASCII):
        left = _pattern_end.get() - time.monotonic()
        if left <= 0:
            raise PatternTimeoutError
        try:
            if regex.search(pattern, text, flags, timeout=left):
                return True
        except TimeoutError:
            raise PatternTimeoutError from None
    return False


def _pattern(_: Validator, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _finds(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _multiple_of(validator: Validator, step: Any, value: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(value, "number") and not exact_json.is_multiple(value, step):
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _pattern_properties(
    validator: Validator, patterns: dict[str, Any], value: Any, _: Any
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, schema in patterns.items():
        for name, member in value.items():
            if _finds(pattern, name):
                yield from validator.descend(member, schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Validator, allowed: Any, value: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [
        name
        for name in value
        if name not in named and not any(_finds(pattern, name) for pattern in patterns)
    ]
    if isinstance(allowed, dict):
        for name in others:
            yield from validator.descend(value[name], allowed, path=name)
    elif not allowed and others:
        listed = ", ".join(map(repr, others))
        yield ValidationError(f"Additional properties are not allowed: {listed}")
