"""Calls that list their arguments, parted by commas, each with its name."""

import keyword
import re
from typing import Any, NamedTuple

from mh_batch.engine.constraint.bounds import Call
from mh_batch.engine.constraint.forms import SubGrammar, quoted, schema_grammar
from mh_batch.jobs.errors import JobError

from .spelling import Spell, without
from .tagged import REMARKS

_DEFINITIONS = ("$defs", "definitions")


class ListedCall(NamedTuple):
    """The rules of a call; the first is called as asked for."""

    rules: list[str]
    parts: list[SubGrammar]


def pythonic_call(call: Call, name: str) -> ListedCall:
    """Return the rules of a call as Python writes it, called `name`: `add(a=1, b="x")`.

    Its values are JSON, which is read as such. Arguments come in the order of the schema, and no
    others; those of a function that is not strict have any value. Raises `JobError` for a name that
    Python could not read.
    """
    declared = call.declared or {}
    required = declared.get("required") or ()
    rules, parts = list[str](), list[SubGrammar]()
    arguments: list[tuple[str, bool]] = []
    for index, (key, schema) in enumerate((declared.get("properties") or {}).items()):
        _check_name(call, key)
        value = f"{name}_{index}_value"
        parts.append(schema_grammar(_with_definitions(schema, declared, strict=call.strict), value))
        arguments.append((f"{quoted(key + '=')} @{value}", key in required))
    _check_name(call, call.name)
    rules.append(f"{name}: {quoted(call.name + '(')} {name}_first_0 {quoted(')')}")
    rules += listed(arguments, name, quoted(", "))
    return ListedCall(rules, parts)


class Bare(NamedTuple):
    """How a family of Gemma writes a call: names without quotes, texts between two marks.

    `name` is a regular expression of the names that its reader takes. A text cannot hold `kept`, a
    class of characters. `nests` is whether lists and objects can be read.
    """

    mark: str
    name: str
    kept: str
    nests: bool


GEMMAS = {
    # the reader puts texts aside between two NUL
    "gemma4": Bare('<|"|>', r"[\w-]+", r"[^\x00]", nests=True),
    "function_gemma": Bare("<escape>", r"\w+", "[^}]", nests=False),
}
"""By mlx-lm's name of the notation."""

_NUMBER = r"/-?(0|[1-9]\d{0,18})(\.\d{1,18})?/"


def bare_call(bare: Bare, call: Call, name: str, spell: Spell) -> ListedCall:
    """Return the rules of a call as Gemma writes it, called `name`: `call:add{a:1,b:<|"|>x<|"|>}`.

    They refer to the rules of `bare_values`. Arguments come in the order of the schema, and no
    others; those of a function that is not strict have any value. Raises `JobError` for a name that
    could not be read, or if the function is strict and an argument cannot be bound.
    """
    declared = call.declared or {}
    required = declared.get("required") or ()
    parts = list[SubGrammar]()
    arguments: list[tuple[str, bool]] = []
    for index, (key, schema) in enumerate((declared.get("properties") or {}).items()):
        if not re.fullmatch(r"\w+", key):
            raise JobError(f"tool {call.name}: this model cannot write {key!r} in a call")
        value: str | None = "bare_value"
        if call.strict and isinstance(schema, dict):
            value = _bare(bare, schema, spell)
            if value is None and schema.get("type") in _SCALARS:
                value = f"@{name}_{index}_value"
                parts.append(schema_grammar(schema, f"{name}_{index}_value", ""))
        if value is None:
            raise JobError(
                f"tool {call.name}: {key} cannot be bound in this model's notation of calls: "
                "leave out strict"
            )
        arguments.append((f"{quoted(key + ':')} {value}", key in required))
    if not re.fullmatch(bare.name, call.name):
        raise JobError(f"tool {call.name}: this model cannot write {call.name!r} in a call")
    begin, end = quoted(f"call:{call.name}{{"), quoted("}")
    rules = [f"{name}: {begin} {name}_first_0 {end}", *listed(arguments, name, quoted(","))]
    return ListedCall(rules, parts)


def bare_values(bare: Bare, spell: Spell) -> list[str]:
    """Return the rules of values: `bare_text`, and `bare_value` for any."""
    mark, text = spell(bare.mark), f"/{bare.kept}*/ & {without(bare.mark)}"
    if mark.startswith("<["):
        rules = [f"bare_text: {mark} BARE {mark}", f"BARE: {text}"]
    else:
        # in one piece with its end: a terminal takes all it can, and would run into the mark
        rules = [f"bare_text: {mark} BARE", f"BARE: ({text}) {mark}"]
    nested = ' | "[" (bare_value ("," bare_value)*)? "]" | "{" (bare_pair ("," bare_pair)*)? "}"'
    rules.append(
        'bare_value: bare_text | "true" | "false" | "null" | NUMBER' + (nested * bare.nests)
    )
    return [*rules, r'bare_pair: /\w{1,64}/ ":" bare_value', f"NUMBER: {_NUMBER}"]


_SCALARS = ("integer", "number", "boolean", "null")


def _bare(bare: Bare, schema: dict[str, Any], spell: Spell) -> str | None:
    """Return a text as a schema allows it, `None` if it is no text or cannot be said here."""
    if not schema.keys() <= REMARKS or schema.get("type") not in ("string", None):
        return None
    if "const" not in schema and "enum" not in schema:
        return "bare_text" if schema.get("type") == "string" else None
    choices = [schema["const"]] if "const" in schema else schema["enum"]
    kept = re.compile(f"{bare.kept}*")
    if not all(isinstance(c, str) and kept.fullmatch(c) and bare.mark not in c for c in choices):
        return None
    mark = spell(bare.mark)
    return "(" + " | ".join(f"{mark} {quoted(choice)} {mark}" for choice in choices) + ")"


def listed(arguments: list[tuple[str, bool]], name: str, comma: str) -> list[str]:
    """Return the rules of a list of arguments, each with whether it must be there.

    `{name}_first_0` is the whole list: of the arguments from a number on, `first` is the list where
    none was before, `next` where one was.
    """
    rules = []
    for index, (argument, needed) in enumerate(arguments):
        behind = index + 1
        for kind, parted in (("first", ""), ("next", f"{comma} ")):
            without = "" if needed else f" | {name}_{kind}_{behind}"
            rules.append(f"{name}_{kind}_{index}: {parted}{argument} {name}_next_{behind}{without}")
    end = len(arguments)
    return [*rules, f'{name}_first_{end}: ""', f'{name}_next_{end}: ""']


def _with_definitions(schema: Any, root: dict[str, Any], *, strict: bool) -> Any:
    if not strict or not isinstance(schema, dict):
        return schema if strict else True
    return schema | {key: root[key] for key in _DEFINITIONS if key in root}


def _check_name(call: Call, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise JobError(f"tool {call.name}: this model cannot write {name!r} in a call")
