"""The fields of a line: which are known, and how one is decoded."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any

import msgspec

from mh_batch.jobs.conversation import TOOL_NAME_PATTERN
from mh_batch.jobs.did_you_mean import near_miss
from mh_batch.jobs.foreign.names import ALIASES, FOREIGN, NESTED
from mh_batch.jobs.settings import BATCH_ONLY, NAMES, WORKERS

Fields = Mapping[str, msgspec.Raw]

SHAPES = ("body", "messages", "conversations", "turns", "prompt")
SETTING_KEYS = (NAMES - BATCH_ONLY) | frozenset(ALIASES)
SYSTEM_KEYS = ("system", "system_prompt")
INNER_KEYS = frozenset({"n"}) | SETTING_KEYS
"""What an object of settings may hold, such as `sampling_params`."""

# `options` is one only where it holds settings
ALWAYS_NESTED = frozenset(name for name in NESTED if not FOREIGN[name].kinds)
REQUEST_KEYS = (
    frozenset({"model", "adapter", "tools", "tool_results", "n", *SYSTEM_KEYS})
    | SETTING_KEYS
    | ALWAYS_NESTED
)
LINE_KEYS = frozenset({"custom_id"}) | frozenset(SHAPES) | REQUEST_KEYS
# only where no other shape is: beside one of them these are keys of the user's own
ALPACA_KEYS = LINE_KEYS | {"instruction", "input", "history"}
BATCH_KEYS = frozenset({"custom_id", "method", "url", "body", "tool_results"})
BODY_KEYS = frozenset({"messages"}) | REQUEST_KEYS
KNOWN_KEYS = LINE_KEYS | BATCH_KEYS | BODY_KEYS | frozenset(NESTED)

_OWN_KEY = "; give a key of your own another name"
MAX_SHOWN_KEYS = 12
MAX_SHOWN_KEY = 40


class BadField(ValueError):
    """A field of a line is wrong; the message begins with its name."""


class NoShape(BadField):
    """A line has none of the keys that make a conversation; `keys` are those that it has."""

    def __init__(self, message: str, fields: Fields) -> None:
        super().__init__(message)
        self.keys = tuple(key[:MAX_SHOWN_KEY] for key in islice(fields, MAX_SHOWN_KEYS))


class InBody:
    """Says that fields are a request's own, as those of an OpenAI body: there every key counts.

    Unknown keys are refused; with `left_out` they are left out and counted there.
    """

    def __init__(self, left_out: Counter[str] | None) -> None:
        self._left_out = left_out

    def leave_out(self, name: str, prefix: str) -> None:
        """Count an unknown key, or refuse it."""
        if self._left_out is None:
            raise BadField(f"{prefix}{name}: unknown; --ignore-unknown leaves such keys out")
        self._left_out[name] += 1


def unknown_fields(
    fields: Fields, known: frozenset[str], prefix: str, body: InBody | None = None
) -> dict[str, msgspec.Raw]:
    """Return the unknown fields; refuse misspelled and unsupported ones.

    `body` says that they are a request's own; `None` that the user may have keys of other meaning.
    """
    extra = {}
    # in the order of the line: it shows in the results
    for name in fields:
        if name in known:
            continue
        foreign = FOREIGN.get(name)
        if foreign is not None and foreign.refused:
            raw = bytes(fields[name])
            if body is not None or foreign.is_meant(raw):
                if not foreign.is_neutral(raw):
                    own = "" if body is not None else _OWN_KEY
                    raise BadField(f"{prefix}{name}: not supported: {foreign.use}{own}")
                continue
        if name in WORKERS:
            if bytes(fields[name]) != b"null":
                where = f"the worker's, not a line's: {WORKERS[name]}"
                raise BadField(f"{prefix}{name}: {where}{_OWN_KEY}")
            continue
        if foreign is None:
            meant = near_miss(name, known)
            if meant is not None:
                raise BadField(f"{prefix}{name}: unknown; did you mean {meant}?")
            if body is not None:
                body.leave_out(name, prefix)
                continue
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
