"""Whether forms can be kept to and schemas be checked by: found out at submit, without a model."""

import functools
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from llguidance import LLMatcher, LLTokenizer

from mh_batch.jobs.answers.forms import Form, ToolChoice
from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, Tool
from mh_batch.jobs.errors import SettingsError

from . import lark_text, schemas
from .bounds import parameters
from .byte_table import BYTES, byte_table
from .finite import ENDLESS, can_end
from .forms import SubGrammar, form_grammar, joined, lark_grammar, regex
from .validation.schemas import checking_fault, metaschema_fault

MOST_BYTES = 256 * 1024
"""How long a form may be, as JSON."""

_LONGEST_REASON = 300
_MOST_KEPT = 1024
_LIMIT = re.compile(r"fuel|limit|too ?(big|large|complex)", re.IGNORECASE)
_NOTHING = "nothing"
_NOT_WHITE = r"/(.|\n)*[^ \t\r\n](.|\n)*/"


def check_form(form: Form) -> None:
    """Raise `SettingsError` with the reason if answers cannot be kept to the form."""
    if form.name is not None and not re.fullmatch(TOOL_NAME_PATTERN.strip("^$"), form.name):
        raise SettingsError(
            f"a form cannot be called {form.name!r}: letters, digits, _ and -, at most 64"
        )
    encoded = msgspec.json.encode((form.kind, form.value, form.whitespace_pattern))
    _raise_fault(encoded, lambda: _too_long(encoded) or _fault(form))


def check_schema(schema: dict[str, Any] | bool) -> None:
    """Raise `SettingsError` with the reason if finished texts cannot be checked by a schema."""

    def fault() -> str | None:
        reason = checking_fault(schema)
        if reason is None:
            return None if can_end(schema) else ENDLESS
        return _shortened(reason)

    _raise_fault(msgspec.json.encode(("checked", schema)), fault)


def check_calls(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """Raise `SettingsError` if calls cannot be kept to `choice` and to the strict tools."""
    names = [tool.function.name for tool in tools]
    if choice.mode == "required" and not tools:
        raise SettingsError("tool_choice: there are no tools")
    if choice.name is not None and choice.name not in names:
        raise SettingsError(f"tool_choice: there is no tool {choice.name!r}")
    for tool in tools:
        function = tool.function
        if not function.strict:
            continue
        kind = (function.parameters or {}).get("type", "object")
        if kind != "object" and kind != ["object"]:
            raise SettingsError(f"tool {function.name}: parameters are of type object")
        try:
            check_form(Form("json_schema", parameters(function)))
        except SettingsError as error:
            raise SettingsError(f"tool {function.name}: parameters: {error}") from None


_known: dict[bytes, str | None] = {}


def _raise_fault(encoded: bytes, find: Callable[[], str | None]) -> None:
    """Raise `SettingsError` for a fault of what is encoded.

    What was found is kept: most lines of a file have the same.
    """
    key = blake2b(encoded).digest()
    if key not in _known:
        if len(_known) >= _MOST_KEPT:
            _known.clear()
        _known[key] = find()
    if (reason := _known[key]) is not None:
        raise SettingsError(reason)


def _too_long(encoded: bytes) -> str | None:
    if len(encoded) <= MOST_BYTES:
        return None
    return f"{len(encoded)} bytes are too many: at most {MOST_BYTES // 1024} KiB"


def _fault(form: Form) -> str | None:
    """Return why a form is refused, `None` if it is not."""
    match form.kind:
        case "json_schema" | "json_object":
            return _schema_fault(form)
        case "regex":
            if not form.value:
                return "the regular expression is empty"
            nothing = "the regular expression matches nothing but white space, or nothing at all"
            return _regex_fault(form.value) or _form_fault(form, nothing)
        case "choice":
            if not form.value:
                return "there are no choices"
            if not all(choice.strip() for choice in form.value):
                return "a choice is empty"
            return _form_fault(form, "no choice can be written")
        case "grammar":
            found = lark_text.find_fault(form.value)
            return found or _form_fault(form, "the grammar does not begin with anything")


def _schema_fault(form: Form) -> str | None:
    schema: Any = {"type": "object"} if form.kind == "json_object" else form.value
    if schema is False:
        return "the schema allows nothing"
    if isinstance(schema, dict) and (found := metaschema_fault(schema)) is not None:
        return _shortened(found)
    return (
        (form.whitespace_pattern is not None and _space_fault(form.whitespace_pattern))
        or schemas.find_fault(schema)
        or _explained(schema, _form_fault(form, "the schema allows nothing"))
    )


def _explained(schema: Any, reason: str | None) -> str | None:
    return schemas.explain(schema, reason) if reason is not None else None


def _space_fault(pattern: str) -> str | None:
    """Return why a pattern cannot stand between JSON tokens, `None` if it can."""
    if reason := _regex_fault(pattern):
        return f"whitespace_pattern: {reason}"
    other = lark_grammar(f"start: SPACE\nSPACE: {regex(pattern)} & {_NOT_WHITE}", "space")
    if _grammar_fault(other, _NOTHING) != _NOTHING:
        return "whitespace_pattern: it matches more than white space"
    return None


def _regex_fault(pattern: str) -> str | None:
    """Return why a regular expression is refused, without where it stands in our grammar."""
    matcher = _matcher(lark_grammar(f"start: TEXT\nTEXT: {regex(pattern)}", "text"))
    reason = _compile_fault(matcher)
    return re.sub(r"^at \d+\(\d+\): ", "", reason) if reason is not None else None


def _form_fault(form: Form, nothing: str) -> str | None:
    return _grammar_fault(form_grammar(form, "form"), nothing)


def _grammar_fault(grammar: SubGrammar, nothing: str) -> str | None:
    """Return why llguidance refuses a grammar; `nothing` if no text fits, or only the empty one.

    It finds some faults only once it makes the first mask.
    """
    matcher = _matcher(grammar)
    if reason := _compile_fault(matcher):
        return reason
    mask = matcher.compute_bitmask()
    error = matcher.get_error()
    if error and not error.startswith("NoExtension"):
        return _said(error)
    return nothing if error or not any(mask[: BYTES // 8]) else None


def _compile_fault(matcher: LLMatcher) -> str | None:
    """Return what llguidance says against a grammar; a warning is that it ignores something."""
    error = matcher.get_error()
    messages = [error] if error else matcher.get_grammar_warnings()
    return _said(messages[0]) if messages else None


def _said(message: str) -> str:
    """Return what llguidance says; that one of its limits was reached is not plain from all."""
    past = "past the limits of the parser: " if _LIMIT.search(message) else ""
    return past + _shortened(message)


def _matcher(grammar: SubGrammar) -> LLMatcher:
    whole = joined([f"start: @{grammar['name']}"], [grammar])
    return LLMatcher(_table(), whole, log_level=0)


def _shortened(message: str) -> str:
    """Return a message of a library in one line, without the state or the text of its parser."""
    said = re.split(r"\n<state>|\n   1 \|", message)[0]
    text = " ".join(said.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


@functools.cache
def _table() -> LLTokenizer:
    return byte_table()
