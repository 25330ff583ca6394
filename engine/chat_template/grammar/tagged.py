"""Calls in notations of tags, where each argument stands by itself and its type is not written."""

import re
from typing import Any, NamedTuple

from mh_batch.engine.constraint.bounds import Call
from mh_batch.engine.constraint.forms import SubGrammar, quoted, schema_grammar
from mh_batch.jobs.errors import JobError

from .spelling import Spell, without

REMARKS = frozenset({"type", "enum", "const", "title", "description", "default", "examples"})
"""Keywords that bind a text to nothing but a list of texts."""

_WRITTEN = frozenset({"integer", "number", "boolean", "null", "array", "object"})
_KEY = re.compile(r"[^\s<>\"'&]+")
# some parsers take `null` for the value of that name, whatever the type
_NOT_NULL = r"~/\s*(?i:null)\s*/"


class Tags(NamedTuple):
    """How a family writes a call, between its markers: before and behind its arguments.

    An argument is `before` with its name, its value and `after`. A text cannot hold `forbidden`
    besides, which ends the call for the one that reads it.
    """

    begin: str
    before: str
    after: str
    end: str
    forbidden: str | None = None


_GLM = Tags("{}\n", "<arg_key>{}</arg_key>\n<arg_value>", "</arg_value>\n", "")

TAGS: dict[str, Tags] = {
    "glm47": _GLM,
    "laguna": _GLM,
    "longcat": Tags(
        "{}\n",
        "<longcat_arg_key>{}</longcat_arg_key>\n<longcat_arg_value>",
        "</longcat_arg_value>\n",
        "",
    ),
    "minicpm5": Tags('"{}">', '<param name="{}">', "</param>", "", "</function>"),
    "minimax_m2": Tags(
        '\n<invoke name="{}">\n', '<parameter name="{}">', "</parameter>\n", "</invoke>\n"
    ),
    "qwen3_coder": Tags("\n<function={}>\n", "<parameter={}>\n", "</parameter>\n", "</function>\n"),
}
"""By mlx-lm's name of the notation."""


class TaggedCall(NamedTuple):
    """The rules of what stands between the markers of a call; the first is called as asked for."""

    rules: list[str]
    parts: list[SubGrammar]


def tagged_call(tags: Tags, call: Call, name: str, spell: Spell) -> TaggedCall:
    """Return the rules of a call of one function, called `name`; they refer to `BREAK`.

    Its arguments come in the order of its schema, and no others. Raises `JobError` if the function
    is strict and an argument's schema has no grammar in this notation.
    """
    declared = call.declared or {}
    made = TaggedCall([], [])
    shape = [spell(tags.begin.format(call.name))]
    for index, (key, schema) in enumerate((declared.get("properties") or {}).items()):
        if not _KEY.fullmatch(key):
            raise JobError(f"tool {call.name}: this model cannot write an argument {key!r}")
        value = _value(schema, declared, f"{name}_{index}")
        if value is None and call.strict:
            raise JobError(
                f"tool {call.name}: {key} cannot be bound in this model's notation of calls: "
                "leave out strict"
            )
        written = _ended(value or _Value(), tags, f"{name}_{index}", spell, made)
        argument = f"{spell(tags.before.format(key))} {written}"
        shape.append(argument if key in (declared.get("required") or ()) else f"({argument})?")
    shape += [spell(tags.end)] if tags.end else []
    return TaggedCall([f"{name}: {' '.join(shape)}", *made.rules], made.parts)


class _Value(NamedTuple):
    """A value: one of `choices`, what `grammar` has, or any text."""

    choices: tuple[str, ...] = ()
    grammar: SubGrammar | None = None


def _value(schema: Any, root: dict[str, Any], name: str) -> _Value | None:
    """Return what a schema allows, `None` if that cannot be said in tags."""
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _WRITTEN:
        definitions = {k: v for k, v in root.items() if k in ("$defs", "definitions")}
        return _Value(grammar=schema_grammar(schema | definitions, name))
    if not schema.keys() <= REMARKS or kind not in ("string", None):
        return None
    if "const" in schema or "enum" in schema:
        choices = [schema["const"]] if "const" in schema else schema["enum"]
        return _Value(tuple(choices)) if all(map(_is_plain, choices)) else None
    return _Value() if kind == "string" else None


def _is_plain(choice: Any) -> bool:
    """Whether a text is read as it is written."""
    if not isinstance(choice, str) or not choice or "<" in choice:
        return False
    return choice == choice.strip() and choice.lower() != "null"


def _ended(value: _Value, tags: Tags, name: str, spell: Spell, made: TaggedCall) -> str:
    """Return a value and what ends it as it stands in a rule; what it refers to goes to `made`."""
    ending, terminal = spell(tags.after), name.upper()
    if value.grammar is not None:
        made.parts.append(value.grammar)
        return f"@{name} BREAK {ending}"
    if value.choices:
        made.rules.append(f"{terminal}: {' | '.join(map(quoted, value.choices))}")
        return f"{terminal} BREAK {ending}"
    text = f"{without(tags.after.strip())} & {_NOT_NULL}"
    if tags.forbidden is not None:
        text += f" & {without(tags.forbidden)}"
    if ending.startswith("<["):
        made.rules.append(f"{terminal}: {text}")
        return f"{terminal} {ending}"
    # in one piece with its end: a terminal takes all it can, and would run into the tag
    made.rules.append(f"{terminal}: ({text}) {ending}")
    return terminal
