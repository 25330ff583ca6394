"""The checks of `json_checks` for a line too large to be held as Python objects.

A line of 30 MiB may hold ten million values, which take a gigabyte as Python objects. Here it is
checked as bytes: only the keys of the objects that are open are kept.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, chain, compress, tee
from typing import NamedTuple

import msgspec

from .json_checks import LONE, MAX_DEPTH, OUT_OF_RANGE, TWICE, Path, field_name, out_of_range

LARGE = 1 << 20
"""From how many bytes on a line is checked here."""

MAX_KEY_BYTES = 1 << 20

MAX_MEMBERS = 10_000
"""How many keys a line or its body may have."""

MAX_VALUES = 1 << 20
MAX_TALK_VALUES = 1 << 22
"""How many values a field that we read may hold; the second is for messages."""

_TALK = frozenset({"messages", "conversations"})
_COUNTED = ("history",)  # read in one shape of line, metadata in the others
_BLOCK = 1 << 20
_MANY_COLONS = 1 << 18
_QUOTE, _COLON = b'":'
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TEXTS = re.compile(_TEXT, re.DOTALL)
# what is between two texts or is one, some at a time: a piece of every text would fill memory
_SOME = re.compile(rb'(?:[^"]++|' + _TEXT + rb"){1,5000}+", re.DOTALL)
_MEMBER = re.compile(rb"\s*+(" + _TEXT + rb")\s*+:\s*+", re.DOTALL)
_COMMA = re.compile(rb"\s*+,?")
# the next key, opening or end, and all that stands before it
_STEPS = re.compile(
    rb'(?:[^"\[\]{}]++|' + _TEXT + rb"(?!\s*+:))*+(?:(" + _TEXT + rb")\s*+:|([\[{])|[\]}])",
    re.DOTALL,
)
_KEY, _OPENING = 1, 2
_MAYBE_OUT_OF_RANGE = re.compile(rb"\d{19}|\d[eE][+-]?\d{3}")
_NUMBERS = re.compile(_TEXT + rb"|(-?\d[\d.eE+-]*+)", re.DOTALL)
_MAYBE_LONE = re.compile(rb"\\u[dD][89a-fA-F]")
# as far as it goes there is no half of a character
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+", re.DOTALL
)
_STRUCTURE = b"[]{}:"
_OTHERS = bytes(code for code in range(256) if code not in _STRUCTURE)
_DEEPER = [(code in b"[{") - (code in b"]}") for code in range(256)]
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Error(Exception):
    """What is wrong, the field first."""


class _Member(NamedTuple):
    """A member of the line or of its body: its path, its value, and where that begins."""

    path: Path
    raw: msgspec.Raw
    begin: int


def find_error(line: bytes, known: frozenset[str]) -> str | None:
    """Return what is wrong with a line of JSON, the field first; `None` if nothing is.

    Keys may repeat inside fields that are not `known`. Raises `UnicodeDecodeError` for what is
    no UTF-8, and `msgspec.DecodeError` for what is no JSON object.
    """
    _check_utf8(line)
    if (lone := _lone_surrogate(line)) is not None:
        return f"{field_name(())}: {LONE}, at column {lone + 1}"
    try:
        for member in _members(line, (), 0):
            if member.path == ("body",) and memoryview(member.raw)[0] == ord("{"):
                for inner in _members(bytes(member.raw), member.path, member.begin):
                    _check(inner, ours=inner.path[-1] in known)
            else:
                _check(member, ours=member.path[-1] in known)
    except _Error as found:
        return str(found)
    return None


def _check_utf8(line: bytes) -> None:
    """Raise `UnicodeDecodeError` as a decoder would; in blocks, as text takes up to four times."""
    if line.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(line)
    for begin in range(0, len(line), _BLOCK):
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(view[begin : begin + _BLOCK], begin + _BLOCK >= len(line))
        except UnicodeDecodeError as error:
            start = begin - kept + error.start
            raise UnicodeDecodeError("utf-8", line, start, start + 1, error.reason) from None


def _lone_surrogate(line: bytes) -> int | None:
    """Return where the first lone surrogate is written, `None` if there is none."""
    if not _MAYBE_LONE.search(line):
        return None
    whole = _PAIRED.match(line)
    assert whole is not None, "it matches the empty text"
    return whole.end() if line.startswith(b"\\u", whole.end()) else None


def _members(text: bytes, path: Path, begin: int) -> Iterator[_Member]:
    """Yield the members of an object that begins at `begin`; raises `_Error` for a repeated key.

    A decoder keeps the last of equal keys: a value that is not the one it kept has a repeated key.
    """
    if text.count(b":") > _MANY_COLONS and _count_members(text) > MAX_MEMBERS:
        raise _Error(f"{field_name(path)}: more than {MAX_MEMBERS:,} keys")
    fields = _object.decode(text)
    if len(fields) > MAX_MEMBERS:
        raise _Error(f"{field_name(path)}: more than {MAX_MEMBERS:,} keys")
    view, at, seen = memoryview(text), text.index(b"{") + 1, set()
    while found := _MEMBER.match(text, at):
        _check_key(found[1], path)
        key, value = json.loads(found[1]), found.end()
        raw = fields[key]
        at = value + memoryview(raw).nbytes
        if key in seen or view[value:at] != memoryview(raw):
            raise _Error(f"{field_name((*path, key))}: {TWICE}")
        seen.add(key)
        yield _Member((*path, key), raw, begin + value)
        at = _COMMA.match(text, at).end()  # type: ignore[union-attr]


def _count_members(text: bytes) -> int:
    """Return how many keys an object has, without decoding them."""
    signs, again = tee(_structure(text))
    return Counter(compress(_depths(signs), map(_COLON.__eq__, again)))[1]


def _bare(raw: bytes | msgspec.Raw) -> Iterator[bytes]:
    """Yield JSON without its texts, in blocks."""
    view, at = memoryview(raw), 0
    while (found := _SOME.match(raw, at)) is not None:
        yield _TEXTS.sub(b"", view[at : found.end()])
        at = found.end()


def _structure(raw: bytes | msgspec.Raw) -> Iterator[int]:
    """Yield the brackets and colons of JSON, without those in texts."""
    return chain.from_iterable(block.translate(None, _OTHERS) for block in _bare(raw))


def _depths(structure: Iterator[int]) -> Iterator[int]:
    return accumulate(map(_DEEPER.__getitem__, structure))


def _check(member: _Member, *, ours: bool) -> None:
    """Raise `_Error` for an error in a value; `ours` says that no key may repeat."""
    first = memoryview(member.raw)[0]
    if first == _QUOTE:
        return
    _check_numbers(member)
    if first not in b"[{":
        return
    room = MAX_DEPTH - len(member.path)
    if ours or member.path == _COUNTED:
        _check_count(member)
    if ours:
        _walk(member, room)
    elif max(_depths(_structure(member.raw))) > room:
        raise _Error(f"{field_name(member.path)}: nested more than {MAX_DEPTH} deep")


def _check_numbers(member: _Member) -> None:
    if not _MAYBE_OUT_OF_RANGE.search(member.raw):
        return
    for token in _NUMBERS.finditer(member.raw):
        if token[1] and out_of_range(token[1].decode("ascii")):
            column = member.begin + token.start() + 1
            raise _Error(f"{field_name(member.path)}: {OUT_OF_RANGE}, at column {column}")


def _check_count(member: _Member) -> None:
    """Refuse more values than any field that we read needs: each becomes an object."""
    most = MAX_TALK_VALUES if member.path[-1] in _TALK else MAX_VALUES
    # a value takes at least two bytes, and signs in texts only raise the count
    if memoryview(member.raw).nbytes <= 2 * most or _count_values(bytes(member.raw)) < most:
        return
    if sum(map(_count_values, _bare(member.raw))) > most:
        raise _Error(f"{field_name(member.path)}: more than {most:,} values")


def _count_values(bare: bytes) -> int:
    return sum(bare.count(sign) for sign in (b",", b"[", b"{"))


def _walk(member: _Member, room: int) -> None:
    """Raise `_Error` for a repeated key in an object, and for nesting deeper than `room`."""
    # the keys so far of each open container; `None` for an array
    containers: list[set[bytes] | None] = []
    for token in _STEPS.finditer(member.raw):
        kind = token.lastindex
        if kind == _KEY:
            _check_key(token[1], member.path)
            key, keys = _plain(token[1]), containers[-1]
            assert keys is not None, "only objects have keys"
            if key in keys:
                column = member.begin + token.start(1) + 1
                raise _Error(f"{field_name(member.path)}: {TWICE}, at column {column}")
            keys.add(key)
        elif kind == _OPENING:
            if len(containers) >= room:
                raise _Error(f"{field_name(member.path)}: nested more than {MAX_DEPTH} deep")
            containers.append(set() if token[2] == b"{" else None)
        else:
            containers.pop()


def _check_key(key: bytes, path: Path) -> None:
    if len(key) > MAX_KEY_BYTES:
        raise _Error(f"{field_name(path)}: a key longer than {MAX_KEY_BYTES:,} bytes")


def _plain(text: bytes) -> bytes:
    r"""Return a text without its quotes, escapes resolved: `"\u0061"` is the key `a`."""
    return json.loads(text).encode() if b"\\" in text else text[1:-1]
