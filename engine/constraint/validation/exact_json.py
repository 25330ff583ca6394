"""JSON whose numbers are as they are written: as floats, 0.29 would be no multiple of 0.01."""

import json
from decimal import Decimal
from typing import Any

# Python converts no longer text to an integer
_MOST_DIGITS = 4000


class ExactNumber(Decimal):
    """A number of a JSON text, shown as a number."""

    __repr__ = Decimal.__str__


def decode(text: str) -> Any:
    """Return the value of a JSON text, with exact numbers.

    Raises `ValueError` for what is not JSON, `RecursionError` for a value that is nested too
    deeply, and `decimal.InvalidOperation` for an exponent of many digits.
    """
    return json.loads(text, parse_float=ExactNumber, parse_int=_integer, parse_constant=_refuse)


def is_integer(value: object) -> bool:
    """Whether a value is an integer as JSON schemas have it: 1.0 is one."""
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)


def is_multiple(value: Decimal | int, step: Decimal | int) -> bool:
    """Whether a number is a multiple of a positive one, however many digits its exponent has."""
    digits, exponent = _parts(value)
    step_digits, step_exponent = _parts(step)
    shift = exponent - step_exponent
    if shift >= 0:
        return digits * pow(10, shift, step_digits) % step_digits == 0
    # a number with that many zeros at its end is longer than `digits`
    if -shift > digits.bit_length():
        return digits == 0
    zeros: int = 10**-shift
    return digits % (step_digits * zeros) == 0


def _parts(value: Decimal | int) -> tuple[int, int]:
    """Return the digits of a number as an integer, without its sign, and its exponent."""
    if isinstance(value, int):
        return abs(value), 0
    _, digits, exponent = value.as_tuple()
    return int(Decimal((0, digits, 0))), int(exponent)


def _integer(text: str) -> int | ExactNumber:
    return int(text) if len(text) <= _MOST_DIGITS else ExactNumber(text)


def _refuse(constant: str) -> None:
    """Refuse NaN and the infinities, which Python reads but JSON does not have."""
    raise ValueError(f"{constant} is no number")
