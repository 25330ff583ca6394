"""Whether a text is JSON that fulfils a schema: asked of a complete answer."""

from decimal import InvalidOperation
from itertools import islice
from typing import Any, NamedTuple

import regex
from jsonschema.exceptions import ValidationError, best_match
from referencing.exceptions import Unresolvable

from . import exact_json
from .validators import PatternTimeoutError, pattern_limit, validator_of

PATTERN_SECONDS = 1.0
"""How long the regular expressions of a schema may look at one text, all together."""

_LONGEST_REASON = 300
_MOST_ERRORS = 100


class SchemaFault(NamedTuple):
    """Why a text does not fulfil a schema.

    `certain` is whether that is known; else it could not be told, and the reason says why not.
    """

    reason: str
    certain: bool = True


def find_error(schema: dict[str, Any] | bool, text: str) -> SchemaFault | None:
    """Return why `text` does not fulfil a schema, `None` if it does."""
    try:
        value = exact_json.decode(text)
    except ValueError as fault:
        return SchemaFault(f"the text is not JSON: {fault}")
    except (RecursionError, InvalidOperation) as fault:
        return _untold(fault)
    errors: list[ValidationError] = []
    try:
        with pattern_limit(PATTERN_SECONDS):
            errors.extend(islice(validator_of(schema).iter_errors(value), _MOST_ERRORS))
    except (
        RecursionError, InvalidOperation, PatternTimeoutError, Unresolvable, regex.error
    ) as fault:  # fmt: skip
        if not errors:
            return _untold(fault)
    error = best_match(errors)
    if error is None:
        return None
    said = error.message
    shown = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
    return SchemaFault(f"{error.json_path}: {shown}")


def _untold(fault: Exception) -> SchemaFault:
    """Return that a text cannot be checked, and why not."""
    match fault:
        case RecursionError():
            why = "the text or the schema is nested too deeply"
        case InvalidOperation():  # an exponent of many digits
            why = "a number is out of range"
        case PatternTimeoutError():
            why = f"its regular expressions took longer than {PATTERN_SECONDS:g} s"
        case _:
            why = " ".join(str(fault).split())
    return SchemaFault(f"it cannot be checked: {why}", certain=False)
