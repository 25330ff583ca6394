"""The rules of the setting `accept`, applied to a text."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import SettingsError

from .protocol import one_line

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Schema = dict[str, Any] | bool

# under these keys of a schema are values, not schemas
_VALUES = frozenset({"const", "default", "enum", "examples"})


def broken_rule(rules: AcceptRules, text: str) -> str | None:
    """Return which rule `text` breaks, in words for the model; `None` if it keeps all."""
    chars = len(text)
    if rules.min_chars is not None and chars < rules.min_chars:
        return f"it has {chars} characters and must have at least {rules.min_chars}"
    if rules.max_chars is not None and chars > rules.max_chars:
        return f"it has {chars} characters and must have at most {rules.max_chars}"
    if rules.regex is not None:
        found = re.fullmatch if rules.full_match else re.search
        if found(rules.regex, text) is None:
            how = "match" if rules.full_match else "contain a match of"
            return f"it must {how} the regular expression {rules.regex}"
    for pattern in rules.forbidden:
        if re.search(pattern, text) is not None:
            return f"it must not contain a match of the regular expression {pattern}"
    return None if rules.json_schema is None else schema_violation(rules.json_schema, text)


def schema_violation(schema: Schema, text: str) -> str | None:
    """Return why `text` is not JSON that is valid against `schema`; `None` if it is."""
    from jsonschema.exceptions import best_match

    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return f"it must be JSON: {error}"
    try:
        violation = best_match(_validator(msgspec.json.encode(schema)).iter_errors(value))
    except Exception as error:  # noqa: BLE001  # a schema may refer to itself without end
        return f"it cannot be checked against the JSON schema: {one_line(repr(error))}"
    return violation and f"JSON schema: {violation.json_path}: {violation.message}"


def check_schema(schema: Schema) -> None:
    """Raise `SettingsError` for what is no JSON schema, or refers to something outside of it."""
    from jsonschema.exceptions import SchemaError

    validator = _validator(msgspec.json.encode(schema))
    try:
        validator.check_schema(schema)
    except SchemaError as error:
        where = error.json_path
        raise SettingsError(f"accept: json_schema: {where}: {one_line(error.message)}") from None
    except RecursionError:
        raise SettingsError("accept: json_schema: nested too deep") from None
    for reference in _references(schema):
        if not _resolves(schema, reference):
            why = "refers to nothing in this schema, and nothing is downloaded"
            raise SettingsError(f"accept: json_schema: $ref {one_line(reference)}: {why}")


@lru_cache(maxsize=64)
def _validator(encoded: bytes) -> "Validator":
    """Return the validator of a schema, by the draft that its `$schema` names, else 2020-12."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = msgspec.json.decode(encoded)
    kind = validator_for(schema, default=Draft202012Validator)
    # without a registry of its own, it would download what `$ref` names
    return kind(schema, registry=Registry())


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


def _resolves(schema: Schema, reference: str) -> bool:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    kind = validator_for(schema, default=Draft202012Validator)
    draft = specification_with(kind.META_SCHEMA["$schema"], default=DRAFT202012)
    root = draft.create_resource(schema)
    registry = Registry().with_resource(root.id() or "", root).crawl()
    try:
        registry.resolver(root.id() or "").lookup(reference)
    except Unresolvable:
        return False
    return True


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(f"{constant} is no value of JSON")
