"""What a mangled Harmony header was meant to say."""

import re
from typing import NamedTuple

from mh_batch.engine.parsing.message import CHANNELS

# more leftover characters than this may be text of the answer and not errors in a header
MAX_JUNK = 32

_ROLE = re.compile(r"\s*(assistant|user|system|developer|tool|functions\.[A-Za-z0-9_-]+)")
_ANY_ROLE = re.compile(r"\s*((?:(?!<\|)\S)+)")
_CALL = re.compile(r"to\s*=\s*(functions\.[A-Za-z0-9_-]{1,64})")
_RECIPIENT = re.compile(r"to=((?:(?!<\|)\S)+)")
_TYPE = re.compile(r"<\|constrain\|>\s*([A-Za-z]*)")
_BARE_TYPE = re.compile(r"\b(json|code|text)\b")
_KNOWN = re.compile("|".join(CHANNELS))
_CHANNEL = re.compile(rf"<\|channel\|>\s*({_KNOWN.pattern}|[A-Za-z_]*)")
_CONTROL = re.compile(r"<\|[a-z0-9_]+\|>")


class Header(NamedTuple):
    """What a header says; `junk` holds its leftover words, `defects` what could not be mended."""

    role: str
    channel: str | None
    recipient: str | None
    content_type: str | None
    junk: str
    defects: tuple[str, ...]


def interpret(text: str, *, role: str | None) -> Header:
    """Read the header `text`, control tokens spelled out, as well as possible.

    `role` is the author, `None` if the header itself names it. These are mended: stray words, a
    channel run together with a recipient, `<|constrain|>` before the recipient, a channel
    without its marker, a call on the analysis channel or on none.
    """
    if role is None:
        role, text = _take_role(text)
    recipient, text = _take(_CALL, text)
    if recipient is None:
        recipient, text = _take(_RECIPIENT, text)
    content_type, text = _take(_TYPE, text)
    if content_type is None:
        content_type, text = _take(_BARE_TYPE, text)
    channel, text, defects = _take_channel(text)
    if recipient is not None and channel in ("analysis", None):
        channel = "commentary"
    junk = " ".join(_CONTROL.sub(" ", text).split())
    return Header(role, channel, recipient, content_type or None, junk, defects)


def _take(pattern: re.Pattern[str], text: str) -> tuple[str | None, str]:
    """Return the first match's group, and `text` without the match."""
    match = pattern.search(text)
    if match is None:
        return None, text
    return match[1], f"{text[: match.start()]} {text[match.end() :]}"


def _take_role(text: str) -> tuple[str, str]:
    """Return the role and the rest; a header without a role is the assistant's."""
    match = _ROLE.match(text) or _ANY_ROLE.match(text)
    if match is None:
        return "assistant", text
    role = "tool" if match[1].startswith("functions.") else match[1]
    return role, text[match.end() :]


def _take_channel(text: str) -> tuple[str | None, str, tuple[str, ...]]:
    """Return the channel, the text without it, and the defects."""
    named = _CHANNEL.findall(text)
    known = [name for name in named if name in CHANNELS]
    rest = _CHANNEL.sub(" ", text)
    if not known and (match := _KNOWN.search(text)) and (not named or match[0] in rest):
        known, rest = [match[0]], rest.replace(match[0], " ", 1)
    defects = ("header_conflict",) if len(set(known)) > 1 else ()
    if known:
        return known[-1], rest, defects
    return (named[0] or None) if named else None, rest, defects
