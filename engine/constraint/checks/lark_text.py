"""What a Lark grammar of a user may not hold."""

import re

# as llguidance itself cuts a grammar into tokens: texts, expressions and comments are passed over
_TOKEN = re.compile(
    r"""
      "(?:\\.|[^"\\])*"  |  //[^\n]*  |  \#[^\n]*  |  /(?:\\.|[^/\\])+/
    | (?P<control><[^\s>]*>?)
    | (?P<other>@[\w-]*)
    | (?P<options>%llguidance\b\s*(?!\s*\{\s*\}))
    | (?P<temperature>\btemperature\b\s*=)
    """,
    re.VERBOSE | re.DOTALL,
)

_REASONS = {
    "control": "a grammar cannot name a token",
    "other": "a grammar cannot refer to another one",
    "options": "a grammar cannot have options of llguidance",
    "temperature": "a grammar cannot set the temperature",
}


def find_fault(grammar: str) -> str | None:
    """Return why a grammar is refused that llguidance might take, `None` if it is not.

    Control tokens are the structure around an answer, and no part of it.
    """
    for found in _TOKEN.finditer(grammar):
        if found.lastgroup is not None:
            return f"{_REASONS[found.lastgroup]}: {found[0].strip()}"
    return None
