"""The fields of a line: which are known, and how one is decoded."""

import re
from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from mh_batch.jobs.conversation import TOOL_NAME_PATTERN
from mh_batch.jobs.did_you_mean import near_miss
from mh_batch.jobs.settings import NAMES, NOT_OFFERED, WORKERS

Fields = Mapping[str, msgspec.Raw]

SHAPES = ("body", "messages", "conversations", "turns", "prompt")
ALIASES = {"max_completion_tokens": "max_tokens"}
SETTING_KEYS = NAMES | frozenset(ALIASES)
REQUEST_KEYS = frozenset({"model", "adapter", "tools", "tool_results", "n"}) | SETTING_KEYS
LINE_KEYS = frozenset({"custom_id", "system"}) | frozenset(SHAPES) | REQUEST_KEYS
# only where no other shape is: beside one of them these are keys of the user's own
ALPACA_KEYS = LINE_KEYS | {"instruction", "input", "history"}
BATCH_KEYS = frozenset({"custom_id", "method", "url", "body", "tool_results"})
BODY_KEYS = frozenset({"messages"}) | REQUEST_KEYS
KNOWN_KEYS = LINE_KEYS | BATCH_KEYS | BODY_KEYS

# Parameters of OpenAI's body that would change the result and that are not supported, each with
# the values that change nothing. Any other value is refused, never ignored.
NEUTRAL: dict[str, tuple[bytes, ...]] = {
    "stream": (b"false",),
    "logprobs": (b"false",),
    "top_logprobs": (b"0",),
    "parallel_tool_calls": (b"true",),
    "functions": (b"[]",),
    "function_call": (b'"auto"',),
    "modalities": (b'["text"]',),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    **dict.fromkeys(NOT_OFFERED, ()),
}


MAX_SHOWN_KEYS = 12
MAX_SHOWN_KEY = 40


class BadField(ValueError):
    """A field of a line is wrong; the message begins with its name."""


class NoShape(BadField):
    """A line has none of the keys that make a conversation; `keys` are those that it has."""

    def __init__(self, message: str, fields: Fields) -> None:
        super().__init__(message)
        self.keys = tuple(key[:MAX_SHOWN_KEY] for key in islice(fields, MAX_SHOWN_KEYS))


def unknown_fields(fields: Fields, known: frozenset[str], prefix: str) -> dict[str, msgspec.Raw]:
    """Return the unknown fields; refuse misspelled and unsupported ones."""
    extra = {}
    # in the order of the line: it shows in the results
    for name in fields:
        if name in known:
            continue
        if name in NEUTRAL:
            raw = bytes(fields[name]).replace(b" ", b"")
            if raw != b"null" and raw not in NEUTRAL[name]:
                why = f": {NOT_OFFERED[name]}" if name in NOT_OFFERED else ""
                raise BadField(f"{prefix}{name}: not supported{why}")
            continue
        if name in WORKERS:
            if bytes(fields[name]) != b"null":
                where = f"the worker's, not a line's: {WORKERS[name]}"
                raise BadField(f"{prefix}{name}: {where}; give a key of your own another name")
            continue
        meant = near_miss(name, known)
        if meant is not None:
            raise BadField(f"{prefix}{name}: unknown; did you mean {meant}?")
        extra[name] = fields[name]
    return extra


def hint(fields: Fields) -> str:
    """Return a hint for the end of a message if a key looks misspelled, else nothing."""
    for name in fields:
        meant = near_miss(name, LINE_KEYS)
        if meant is not None and meant != name:
            return f" ({name}: did you mean {meant}?)"
    return ""


def check_tool_name(name: str, path: str) -> None:
    """Raise `BadField` for a name that no tool can have."""
    if not re.match(TOOL_NAME_PATTERN, name) or name.endswith("\n"):
        raise BadField(f"{path}: {name!r} is not 1 to 64 letters, digits, '_' or '-'")


@cache
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder for a type: building one costs more than a line does."""
    return msgspec.json.Decoder(kind)


def decode_field(fields: Fields, name: str, kind: Any, path: str | None = None) -> Any:
    """Decode one field as `kind`; `path` names it in the error, `None` for `name`.

    A missing field is `None`, whatever the kind.
    """
    if name not in fields:
        return None
    path = path or name
    try:
        return decoder(kind).decode(fields[name])
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise BadField(f"{path}{where.rstrip('`')}: {reason}") from None
    except msgspec.DecodeError as error:
        raise BadField(f"{path}: {error}") from None
