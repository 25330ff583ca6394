"""Whether forms can be kept to and schemas be checked by: found out at submit, without a model."""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from mh_batch.jobs.answers.forms import Form, ToolChoice
from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, Tool
from mh_batch.jobs.errors import SettingsError

from .bounds import parameters
from .checks import lark_rules, lark_text, schemas
from .checks.finite import ENDLESS, can_end
from .checks.keywords import unknown_keyword
from .checks.trial import grammar_fault, matches_nothing, regex_fault, shortened, with_line
from .forms import NOT_BLANK, form_grammar, lark_grammar, regex
from .validation.schemas import checking_fault, metaschema_fault

MOST_BYTES = 256 * 1024
"""How long a form may be, as JSON."""

_MOST_KEPT = 1024
_NOTHING = "nothing"
_NO_BEGINNING = "the grammar does not begin with anything"
_IN_SCHEMA = "failed to compile JSON schema"
_NO_END = "the grammar has no text that ends"
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
        if reason is not None:
            return shortened(reason)
        return unknown_keyword(schema) or (None if can_end(schema) else ENDLESS)

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
            # with what keeps it from white space even where a form does without
            filled = f"start: TEXT\nTEXT: {regex(form.value)} & {NOT_BLANK}"
            return regex_fault(form.value) or grammar_fault(lark_grammar(filled, "text"), nothing)
        case "choice":
            if not form.value:
                return "there are no choices"
            if not all(choice.strip() for choice in form.value):
                return "a choice is empty"
            return _form_fault(form, "no choice can be written")
        case "grammar":
            return _lark_fault(form)


def _schema_fault(form: Form) -> str | None:
    schema: Any = {"type": "object"} if form.kind == "json_object" else form.value
    if schema is False:
        return "the schema allows nothing"
    if isinstance(schema, dict) and (found := metaschema_fault(schema)) is not None:
        return shortened(found)
    if form.whitespace_pattern is not None and (found := _space_fault(form.whitespace_pattern)):
        return found
    if found := schemas.find_fault(schema):
        return found
    nothing = "the schema allows nothing"
    reason = _form_fault(form, nothing)
    if reason is None:
        return None
    return schemas.explain(schema, reason, lambda s: _form_fault(Form("json_schema", s), nothing))


def _space_fault(pattern: str) -> str | None:
    """Return why a pattern cannot stand between JSON tokens, `None` if it can."""
    if reason := regex_fault(pattern):
        return f"whitespace_pattern: {reason}"
    other = lark_grammar(f"start: SPACE\nSPACE: {regex(pattern)} & {_NOT_WHITE}", "space")
    if grammar_fault(other, _NOTHING) != _NOTHING:
        return "whitespace_pattern: it matches more than white space"
    return None


def _lark_fault(form: Form) -> str | None:
    if found := lark_text.find_fault(form.value):
        return found
    found = _form_fault(form, _NO_BEGINNING)
    if found is not None and found != _NO_BEGINNING and _IN_SCHEMA not in found:
        return with_line(found)
    rules = lark_rules.read_rules(form.value)
    for schema in rules.schemas:
        if reason := _schema_fault(Form("json_schema", schema)):
            return f"%json: {reason}"
    if found is not None:
        return with_line(found)
    doubtful = lark_rules.doubtful_terminals(rules)
    empty = [name for name in doubtful if matches_nothing(rules.terminals, name)]
    return None if lark_rules.has_end(rules, empty) else _NO_END


def _form_fault(form: Form, nothing: str) -> str | None:
    return grammar_fault(form_grammar(form, "form"), nothing)
