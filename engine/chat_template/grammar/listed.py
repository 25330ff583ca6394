"""Calls that list their arguments, parted by commas, each with its name."""

import keyword
import re
from typing import Any, NamedTuple

from mh_batch.engine.constraint.bounds import Call
from mh_batch.engine.constraint.forms import SubGrammar, quoted, schema_grammar
from mh_batch.jobs.errors import JobError

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
