"""Finds what JSON allows and a line must not have: repeated keys, lone surrogates, deep nesting and
numbers beyond 64 bits.

A decoder would take the last of two equal keys, or stop with a message that names no field; here
the message begins with the field.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from math import isinf
from typing import Any

MAX_DEPTH = 128
"""How deep objects and arrays may be nested, including the line itself."""

TWICE = "the key is there twice"
LONE = "half of a character (a lone surrogate such as \\ud800)"
OUT_OF_RANGE = "a number beyond 64 bits; write it as a text"

_LONGEST_NAME = 80

# possessive, and complete without its end: no line can make the search backtrack
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_NESTING = re.compile(rf"{_STRING}|[\[{{]|[\]}}]", re.DOTALL)
_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")

Path = tuple[str | int, ...]


SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""The integers that 64 bits hold, with a sign or without: MessagePack and SQLite take no others."""

_LONGEST_INTEGER = 20  # characters of SMALLEST and of LARGEST
_NOT_ZERO = re.compile(r"[-0.]*+[1-9]")


class _Suspicious(Exception):
    """The line needs a closer look: a repeated key, or a number out of range."""


class _Number(str):
    """A number as it is written in the line, distinct from a text."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object with all of its keys, equal ones too."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    # making a dictionary is the cheapest way to count distinct keys
    if len(dict(pairs)) != len(pairs):
        raise _Suspicious


def _refuse_large(text: str) -> None:
    if out_of_range(text):
        raise _Suspicious


def out_of_range(number: str) -> bool:
    """Whether a number is an integer beyond 64 bits, or too large or too small for a float.

    (JSON has no leading zeros, so a long integer is a large one, and is not computed.)
    """
    if number.lstrip("-").isdigit():
        if len(number) < _LONGEST_INTEGER - 1:
            return False
        return len(number) > _LONGEST_INTEGER or not SMALLEST <= int(number) <= LARGEST
    value = float(number)
    return isinf(value) if value else _NOT_ZERO.match(number) is not None


_scan = json.JSONDecoder(
    object_pairs_hook=_refuse_twice, parse_int=_refuse_large, parse_float=_refuse_large
).raw_decode
_read = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number
).raw_decode


def find_error(text: str, known: frozenset[str]) -> str | None:
    """Return what is wrong with the JSON `text`, the field first; `None` if nothing is.

    Keys may repeat inside fields that are not `known`: those are passed on as they were written.
    """
    # an object or array takes a bracket, so few brackets cannot be deep
    if text.count("{") + text.count("[") > MAX_DEPTH and (deep := _too_deep(text)) is not None:
        return deep
    try:
        return _first_error(text, known)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg.removesuffix(' at')} at column {error.pos + 1}"


def _first_error(text: str, known: frozenset[str]) -> str | None:
    begin = len(text) - len(text.lstrip())
    with suppress(_Suspicious):
        _scan(text, begin)
        if not _MAYBE_SURROGATE.search(text):
            return None
    tree, _ = _read(text, begin)
    return next(_errors(tree, known), None)


def _errors(tree: Any, known: frozenset[str]) -> Iterator[str]:
    """Yield repeated keys, lone surrogates and large numbers, in the order of the line."""
    waiting: list[tuple[Path, Any, bool]] = [((), tree, True)]
    while waiting:
        path, value, strict = waiting.pop()
        if isinstance(value, _Number):
            if out_of_range(value):
                yield f"{field_name(path)}: {OUT_OF_RANGE}"
        elif isinstance(value, str):
            if _SURROGATE.search(value):
                yield f"{field_name(path)}: {LONE}"
        elif isinstance(value, _Pairs):
            seen: set[str] = set()
            for key, _ in value:
                if _SURROGATE.search(key):
                    yield f"{field_name(path)}: a key with half of a character (a lone surrogate)"
                if strict and key in seen:
                    yield f"{field_name((*path, key))}: {TWICE}"
                seen.add(key)
            waiting += [
                ((*path, key), item, strict and _is_ours((*path, key), known))
                for key, item in reversed(value)
            ]
        elif isinstance(value, list):
            items = list(enumerate(value))
            waiting += [((*path, i), item, strict) for i, item in reversed(items)]


def _is_ours(path: Path, known: frozenset[str]) -> bool:
    """Whether keys below `path` are fields that we read, in the line or in its body."""
    if len(path) == 1:
        return path[0] in known
    return path[:1] != ("body",) or len(path) > 2 or path[1] in known


def _too_deep(text: str) -> str | None:
    """Return the field that is nested beyond `MAX_DEPTH`, `None` if none is."""
    depth = 0
    keys = ["", ""]
    for found in _NESTING.finditer(text):
        token = found[0]
        if token in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                path = keys if keys[0] == "body" else keys[:1]
                return f"{field_name(tuple(path))}: nested more than {MAX_DEPTH} deep"
        elif token in "]}":
            depth -= 1
        elif depth in (1, 2):
            keys[depth - 1] = token[1:-1]
    return None


def field_name(path: Path) -> str:
    """Return a path as people write it, such as `messages[2].content`; a long key is cut."""
    told = ""
    for part in path:
        if isinstance(part, int):
            told += f"[{part}]"
            continue
        shown = part if len(part) <= _LONGEST_NAME else f"{part[:_LONGEST_NAME]}…"
        told += f".{shown}" if told else shown
    return told.encode("utf-8", "backslashreplace").decode() or "the line"
