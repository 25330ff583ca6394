"""Whether a text is JSON that fulfils a schema, by jsonschema: asked of a complete answer."""

import functools
import json
from decimal import Decimal, InvalidOperation
from typing import Any

from jsonschema import validators
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator

_LONGEST_REASON = 300
_MOST_KEPT = 256


def find_error(schema: dict[str, Any] | bool, text: str) -> str | None:
    """Return why `text` does not fulfil a schema, `None` if it does.

    Numbers are compared as they are written: as floats, 0.29 would be no multiple of 0.01.
    """
    try:
        error = best_match(_validator(json.dumps(schema)).iter_errors(_exact(text)))
    except (ValueError, RecursionError) as fault:
        return f"not JSON: {fault}"
    except InvalidOperation:  # an exponent of many digits
        return "a number is out of range"
    if error is None:
        return None
    said = error.message
    shown = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
    return f"{error.json_path}: {shown}"


def _exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(f"{constant} is no number")


@functools.lru_cache(_MOST_KEPT)
def _validator(schema_text: str) -> Validator:
    schema = _exact(schema_text)
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    types = kind.TYPE_CHECKER.redefine("integer", _is_integer)
    return validators.extend(kind, type_checker=types)(schema)


def _is_integer(_: Any, value: Any) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)
