"""Whether an answer has the form that was asked for: the second look, once it is there.

The model cannot write anything else, so this finds faults of the program, not of the model. Answers
that were cut are told apart from those that end.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec

from mh_batch.jobs.answers.forms import INCOMPLETE, VIOLATED, Form
from mh_batch.jobs.generation import Generation, Parse, StopReason

PATTERN_SECONDS = 1.0
"""How long one regular expression of a schema may look at a text."""


def check_generation(generation: Generation, form: Form | None) -> Generation:
    """Return a generation whose parse has the problems of its answer's form."""
    parse = check_parse(generation.parse, generation.stop_reason, form)
    if parse is generation.parse:
        return generation
    return msgspec.structs.replace(generation, parse=parse)


def check_parse(parse: Parse, stop: StopReason, form: Form | None) -> Parse:
    """Return a parse with `incomplete_form` or `form_violated` where that is so, else as it is.

    Reasoning and calls have no form: only the final text is looked at.
    """
    final = parse.text("final")
    if form is None or final is None:
        return parse
    if stop is StopReason.MAX_TOKENS:
        return _with_problem(parse, INCOMPLETE)
    if stop is StopReason.STOP_TOKEN and parse.well_formed and not has_form(final, form):
        return _with_problem(parse, VIOLATED)
    return parse


def has_form(text: str, form: Form) -> bool:
    """Whether a text has a form, as far as that can be told without the model's constraint.

    Expressions and grammars have a syntax of their own, and what their constraint let through has
    the form.
    """
    if form.kind == "choice":
        return text.strip() in {choice.strip() for choice in form.value}
    if not form.is_json:
        return True
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True
    if form.kind == "json_object":
        return isinstance(value, dict)
    return _is_valid(value, msgspec.json.encode(form.value))


def _with_problem(parse: Parse, problem: str) -> Parse:
    if problem in parse.problems:
        return parse
    problems = (*parse.problems, problem)
    return msgspec.structs.replace(parse, well_formed=False, problems=problems)


def _is_valid(value: Any, schema: bytes) -> bool:
    """Whether a value is valid; also where the schema has what only its constraint understands."""
    from referencing.exceptions import Unresolvable

    try:
        return bool(_validator(schema).is_valid(value))
    except (re.error, RecursionError, Unresolvable):
        return True


# the answers of a batch have few schemas between them
@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Any:
    """Return the validator of an encoded schema, of the draft that the schema names."""
    # imported late: most batches have no schema
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend, validator_for

    decoded = msgspec.json.decode(schema)
    draft = validator_for(decoded, default=Draft202012Validator)
    return extend(draft, {"pattern": _pattern, "multipleOf": _multiple_of})(decoded)


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Exception]:
    """Search a text; the library's own search knows no classes, and has no limit of time.

    Classes such as `\\w` are those of ASCII or of Unicode: what has the form by either one has it.
    """
    import regex
    from jsonschema import ValidationError

    if not isinstance(value, str):
        return
    try:
        found = any(
            regex.search(pattern, value, flags, timeout=PATTERN_SECONDS)
            for flags in (regex.UNICODE, regex.ASCII)
        )
    except (regex.error, TimeoutError):
        return
    if not found:
        yield ValidationError(f"does not match {pattern}")


def _multiple_of(_: Any, step: float, value: Any, __: Any) -> Iterator[Exception]:
    """Divide exactly, by the digits as they are written: as floats 0.3 is no multiple of 0.1."""
    from jsonschema import ValidationError

    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if step > 0 and Fraction(str(value)) % Fraction(str(step)):
        yield ValidationError(f"no multiple of {step}")
