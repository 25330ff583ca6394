"""The whole of a Harmony completion as one grammar; only its end is bound.

Thoughts and preambles are free. Then comes the answer in its form, or a call of a declared
function. `<|return|>` is the end token of the tables, so it is allowed only behind a complete
answer.
"""

from collections.abc import Iterator

from mh_batch.engine.constraint.bounds import Bounds, Call
from mh_batch.engine.constraint.forms import (
    NOT_BLANK,
    SubGrammar,
    form_grammar,
    joined,
    quoted,
)

_ANSWER = "answer"

_RULES = (
    'start: (thought <|end|> <|start|> "assistant")* last',
    'thought: <|channel|> ("analysis" | "commentary") <|message|> TEXT',
    r"TEXT: /(.|\n)*/",
    f"NOT_BLANK: {NOT_BLANK}",
    # without the control token a space has to part the type from the word before
    'json: " "? <|constrain|> "json"',
    'type: " "? <|constrain|> ("json" | "code") | " json" | " code"',
)


def harmony_grammar(bounds: Bounds) -> str:
    """Return the grammar of llguidance for the completions that `bounds` allow."""
    ends: list[str] = []
    parts: list[SubGrammar] = []
    if bounds.answers:
        ends.append(_answer(bounds))
        if bounds.form is not None:
            parts.append(form_grammar(bounds.form, _ANSWER))
    for index, call in enumerate(bounds.calls):
        name = f"call_{index}"
        ends += _headers(call, name)
        parts.append(call.grammar(name))
    return joined((*_RULES, "last: " + "\n    | ".join(ends)), parts)


def _answer(bounds: Bounds) -> str:
    if bounds.form is None:
        return '<|channel|> "final" json? <|message|> NOT_BLANK'
    kind = " json?" if bounds.form.is_json else ""
    return f'<|channel|> "final"{kind} <|message|> @{_ANSWER}'


def _headers(call: Call, body: str) -> Iterator[str]:
    """Yield a call in both orders of its header."""
    recipient = f" to=functions.{call.name}"
    rest = f"type? <|message|> @{body} <|call|>"
    yield f"<|channel|> {quoted('commentary' + recipient)} {rest}"
    yield f'{quoted(recipient)} <|channel|> "commentary" {rest}'
