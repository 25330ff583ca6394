"""What an answer must be beyond its form, as a setting: the rules, not their application."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Pattern = Annotated[str, Meta(min_length=1)]
MOST_CHARS = 2**31 - 1
Chars = Annotated[int, Meta(ge=0, le=MOST_CHARS)]


class AcceptRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rules for the final text of an answer, exactly as it is stored.

    `regex` must be found in it, with `full_match` match all of it; `not_regex`, one expression or
    several, must not be found. Expressions are those of Python's `re`. `min_chars` and `max_chars`
    bound its length. `json_schema` says that it must be JSON, and valid against that schema.
    """

    regex: Pattern | None = None
    full_match: bool = False
    not_regex: Pattern | tuple[Pattern, ...] = ()
    min_chars: Chars | None = None
    max_chars: Annotated[int, Meta(ge=1, le=MOST_CHARS)] | None = None
    json_schema: dict[str, Any] | bool | None = None

    def __post_init__(self) -> None:
        """Refuse rules that nothing can keep; msgspec reports a `ValueError` with its path."""
        if self.regex is not None:
            _check_regex("regex", self.regex)
        for pattern in self.forbidden:
            _check_regex("not_regex", pattern)
        if self.full_match and self.regex is None:
            raise ValueError("full_match goes with regex")
        least, most = self.min_chars, self.max_chars
        if least is not None and most is not None and least > most:
            raise ValueError(f"min_chars {least} is above max_chars {most}")

    @property
    def forbidden(self) -> tuple[str, ...]:
        """The expressions of `not_regex`, however many there are."""
        return (self.not_regex,) if isinstance(self.not_regex, str) else self.not_regex


def _check_regex(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{name}: not a regular expression: {error}") from None
