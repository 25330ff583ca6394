"""A form as a grammar of llguidance, under a name by which another grammar refers to it."""

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from mh_batch.jobs.answers.forms import Form

from .blank import can_be_blank
from .schema_places import places

SubGrammar = dict[str, Any]
"""One of the grammars that llguidance takes together: its name, and a JSON schema or Lark text."""

WHITESPACE = r"( |\n[ \t]{0,64})?"
"""The white space between JSON tokens: none, a space, or a line break with indentation."""

# `u` is left out: llguidance lets a further key be spelled `\u0061`, and does not see that this is
# the declared key `a`, so that its value goes unchecked
_ESCAPES = '"\\bfnrt'

NOT_BLANK = r"/(.|\n)*[^\s\x1c-\x1f](.|\n)*/"
"""A text of more than white space, as a regular expression in a Lark grammar."""

_UNSAFE = re.compile(r"\\.|[/\x7f]", re.DOTALL)


def form_grammar(form: Form, name: str) -> SubGrammar:
    """Return the grammar of the texts that have the form; none of them is white space alone.

    A Lark grammar is taken as it is: whether it has such texts is not known.
    """
    match form.kind:
        case "json_object":
            return schema_grammar({"type": "object"}, name, form.whitespace_pattern)
        case "json_schema":
            return schema_grammar(form.value, name, form.whitespace_pattern)
        case "regex":
            text = regex(form.value)
            # both together cost the lexer much where the expression is long
            filled = f"{text} & {NOT_BLANK}" if can_be_blank(text) else text
            return lark_grammar(f"start: ANSWER\nANSWER: {filled}", name)
        case "choice":
            choices = " | ".join(quoted(choice) for choice in form.value)
            return lark_grammar(f"start: ANSWER\nANSWER: {choices}", name)
        case "grammar":
            return lark_grammar(form.value, name)


def schema_grammar(
    schema: dict[str, Any] | bool, name: str, whitespace_pattern: str | None = None
) -> SubGrammar:
    """Return the grammar of the JSON texts of the values that a schema allows."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    options = {
        "whitespace_flexible": True,
        "whitespace_pattern": WHITESPACE if whitespace_pattern is None else whitespace_pattern,
        "json_allowed_escapes": _ESCAPES,
    }
    return {"name": name, "json_schema": {**_plainer(schema), "x-guidance": options}}


def _plainer(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without `uniqueItems: false`, which says nothing and is not supported."""
    if not any(_says_not_unique(place.schema) for place in places(schema)):
        return schema
    copied = deepcopy(schema)
    for place in places(copied):
        if _says_not_unique(place.schema):
            del place.schema["uniqueItems"]
    return copied


def _says_not_unique(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("uniqueItems") is False


def lark_grammar(text: str, name: str) -> SubGrammar:
    """Return a grammar in Lark's notation."""
    return {"name": name, "lark_grammar": text}


def joined(rules: Sequence[str], parts: Sequence[SubGrammar]) -> str:
    """Return what llguidance takes: Lark rules from `start` on, and the grammars they refer to."""
    main = lark_grammar("\n".join(rules), "completion")
    return json.dumps({"grammars": [main, *parts]})


def quoted(text: str) -> str:
    """Return `text` as a string in a Lark grammar."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def regex(pattern: str) -> str:
    """Return a regular expression as a terminal in a Lark grammar.

    Between slashes a slash, an escaped line break and DEL have to be written otherwise.
    """
    return "/" + _UNSAFE.sub(_escaped, pattern) + "/"


def _escaped(found: re.Match[str]) -> str:
    return {"/": r"\/", "\\\n": r"\n", "\x7f": r"\x7f"}.get(found[0], found[0])
