"""The shapes of a line, each decoded strictly into one `Request`.

OpenAI batch (`body`), chat (`messages`, `turns`), MT-Bench (`turns`), plain (`prompt`), ShareGPT
(`conversations`) and Alpaca (`instruction`). An error names the field as the user wrote it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from mh_batch.jobs.conversation import (
    TOOL_NAME_PATTERN,
    Message,
    Request,
    Role,
    Tool,
    ToolCall,
    ToolResults,
)
from mh_batch.jobs.did_you_mean import near_miss, nearest
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import NAMES, NOT_OFFERED, NULLABLE, Context, Settings, apply

T = TypeVar("T")
Fields = Mapping[str, msgspec.Raw]
Choices = Annotated[int, Meta(ge=1, le=128)]

MAX_MODEL_CHARS = 4096
MAX_REMEMBERED_BYTES = 4096
"""Longer settings are checked in every line, not cached: they would fill memory."""

SHAPES = ("body", "messages", "conversations", "turns", "prompt")
ALIASES = {"max_completion_tokens": "max_tokens"}
SETTING_KEYS = NAMES | frozenset(ALIASES)
REQUEST_KEYS = frozenset({"model", "tools", "tool_results", "n"}) | SETTING_KEYS
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
    "tool_choice": (b'"auto"',),
    "parallel_tool_calls": (b"true",),
    "response_format": (b'{"type":"text"}',),
    "functions": (b"[]",),
    "function_call": (b'"auto"',),
    "modalities": (b'["text"]',),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    **dict.fromkeys(NOT_OFFERED, ()),
}

TALK: tuple[Role, Role] = ("user", "assistant")
SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


class BadField(ValueError):
    """A field of a line is wrong; the message begins with its name."""


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    """The only kind of content part that a text model takes."""

    text: str


class WireMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A message in all common spellings; `refusal` and the like must be null."""

    role: Role
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    thinking: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    # ignored, so it is not decoded
    annotations: msgspec.Raw = msgspec.Raw(b"null")


class ShareGptTurn(msgspec.Struct, frozen=True, gc=False):
    """One entry of ShareGPT's `conversations`; its other keys (weights and such) are ignored."""

    value: str
    speaker: str = msgspec.field(name="from")


class Shaped(msgspec.Struct, frozen=True):
    """A decoded line: its request, its model, and its unknown keys."""

    request: Request
    model: str | None
    extra: dict[str, msgspec.Raw]


class _Place(NamedTuple):
    """Where settings are: the prefix of their names, and the batch's own."""

    prefix: str
    inherited: Context


def shape(fields: Fields, inherited: Context) -> Shaped:
    """Turn the top-level fields of a line into a request.

    Its settings must be compatible with those `inherited` from its batch. Raises `BadField` with
    the field and the reason.
    """
    found = [name for name in SHAPES if name in fields]
    if found not in ([], ["messages", "turns"]) and len(found) > 1:
        raise BadField(f"{' and '.join(found)}: which one is the conversation?")
    if not found and "instruction" in fields:
        found = ["instruction"]
    if not found:
        raise BadField(
            "no known shape: a line needs one of messages, turns, prompt, conversations, "
            "instruction or body" + _meant(fields)
        )
    if found == ["body"]:
        return _openai_batch(fields, inherited)
    extra = _unknown(fields, ALPACA_KEYS if found == ["instruction"] else LINE_KEYS, "")
    messages = _context(fields, found[0])
    if "system" in fields:
        system = _decode(fields, "system", str)
        if any(m.role in ("system", "developer") for m in messages):
            raise BadField("system: the messages already begin with one")
        messages = (Message("system", system), *messages)
    turns = _decode(fields, "turns", tuple[str, ...]) if "turns" in fields else ()
    return _build(fields, messages, turns, extra, _Place("", inherited))


def _openai_batch(fields: Fields, inherited: Context) -> Shaped:
    """Read `{"custom_id", "method", "url", "body"}` of OpenAI's batch files."""
    extra = _unknown(fields, BATCH_KEYS, "")
    for name in extra:
        if name in LINE_KEYS:
            raise BadField(f"{name}: belongs into body")
    if "method" in fields and _decode(fields, "method", str) != "POST":
        raise BadField("method: only POST")
    if "url" in fields:
        url = _decode(fields, "url", str)
        if not url.endswith("/chat/completions"):
            raise BadField(f"url: only /v1/chat/completions, got {url!r}")
    body = _decode(fields, "body", dict[str, msgspec.Raw])
    if "messages" not in body:
        raise BadField("body.messages: missing" + _meant(body))
    body_extra = _unknown(body, BODY_KEYS, "body.")
    for name in body_extra:
        if name in extra:
            raise BadField(f"{name}: both in the line and in its body")
    messages = _chat_messages(body, "body.messages")
    # not a field of OpenAI's body, so it may be beside it
    if "tool_results" in fields:
        if "tool_results" in body:
            raise BadField("tool_results: both in the line and in its body")
        body["tool_results"] = fields["tool_results"]
    together = _in_order(fields, extra, body_extra)
    return _build(body, messages, (), together, _Place("body.", inherited))


def _in_order(
    fields: Fields, extra: dict[str, msgspec.Raw], body_extra: dict[str, msgspec.Raw]
) -> dict[str, msgspec.Raw]:
    """Return the unknown keys in the order of the line, those of the body at its place."""
    together: dict[str, msgspec.Raw] = {}
    for name in fields:
        together |= body_extra if name == "body" else {}
        together |= {name: extra[name]} if name in extra else {}
    return together


def _context(fields: Fields, shape_name: str) -> tuple[Message, ...]:
    """Return the messages that come before any further user turn."""
    if shape_name == "messages":
        return _chat_messages(fields, "messages")
    if shape_name == "prompt":
        return (Message("user", _decode(fields, "prompt", str)),)
    if shape_name == "conversations":
        return _sharegpt_messages(_decode(fields, "conversations", list[ShareGptTurn]))
    if shape_name == "instruction":
        return _alpaca_messages(fields)
    return ()


def _alpaca_messages(fields: Fields) -> tuple[Message, ...]:
    """Join an instruction and its input, after the pairs of question and answer of `history`."""
    history = _decode(fields, "history", list[tuple[str, str]] | None) or []
    parts = (_decode(fields, "instruction", str), _decode(fields, "input", str | None))
    earlier = [
        Message(role, text)
        for pair in _used_up(history)
        for role, text in zip(TALK, pair, strict=True)
    ]
    return (*earlier, Message("user", "\n\n".join(part for part in parts if part)))


def _chat_messages(fields: Fields, path: str) -> tuple[Message, ...]:
    """Decode OpenAI chat messages."""
    wire = _decode(fields, "messages", list[WireMessage], path)
    tool_names: dict[str, str] = {}
    used_up = enumerate(_used_up(wire))
    return tuple(_message(m, f"{path}[{i}]", tool_names) for i, m in used_up)


def _used_up(items: list[T]) -> Iterator[T]:
    """Yield the items of a list and remove each, so that a million are not held twice."""
    items.reverse()
    while items:
        yield items.pop()


def _message(wire: WireMessage, path: str, tool_names: dict[str, str]) -> Message:
    """Check one message by its role; `tool_names` maps call ids seen so far to tool names."""
    calls = wire.tool_calls or ()
    if calls and wire.role != "assistant":
        raise BadField(f"{path}.tool_calls: only an assistant calls tools")
    for i, call in enumerate(calls):
        _check_tool_name(call.function.name, f"{path}.tool_calls[{i}].function.name")
        tool_names[call.id] = call.function.name
    if wire.content is None and not calls:
        raise BadField(f"{path}.content: missing")
    content = wire.content or ""
    if not isinstance(content, str):
        content = "".join(part.text for part in content)
    name = wire.name
    if wire.role == "tool":
        name = name or tool_names.get(wire.tool_call_id or "")
        if name is None:
            raise BadField(f"{path}.tool_call_id: no earlier call has it, and there is no name")
        _check_tool_name(name, f"{path}.name")
    return Message(
        role=wire.role,
        content=content,
        thinking=wire.thinking or wire.reasoning_content or wire.reasoning,
        name=name,
        tool_calls=calls,
        tool_call_id=wire.tool_call_id,
    )


def _sharegpt_messages(entries: list[ShareGptTurn]) -> tuple[Message, ...]:
    """Turn ShareGPT's entries into messages.

    Such files end with the answer to train on; the model is to answer anew, so trailing answers
    are left out.
    """
    messages = []
    for i, entry in enumerate(_used_up(entries)):
        role = SHAREGPT_ROLES.get(entry.speaker)
        if role is None:
            known = ", ".join(SHAREGPT_ROLES)
            raise BadField(f"conversations[{i}].from: unknown {entry.speaker!r} (known: {known})")
        messages.append(Message(role, entry.value))
    while messages and messages[-1].role == "assistant":
        messages.pop()
    return tuple(messages)


def _build(
    fields: Fields,
    messages: tuple[Message, ...],
    turns: tuple[str, ...],
    extra: dict[str, msgspec.Raw],
    place: _Place,
) -> Shaped:
    """Check the conversation as a whole and add tools, model and settings."""
    prefix = place.prefix
    _check_order(messages, turns, prefix)
    tools = _decode(fields, "tools", tuple[Tool, ...] | None, f"{prefix}tools") or ()
    for i, tool in enumerate(tools):
        _check_tool_name(tool.function.name, f"{prefix}tools[{i}].function.name")
    if len({tool.function.name for tool in tools}) < len(tools):
        raise BadField(f"{prefix}tools: two tools have the same name")
    model = _decode(fields, "model", str | None, f"{prefix}model")
    if model == "":
        raise BadField(f"{prefix}model: empty")
    if model is not None and (len(model) > MAX_MODEL_CHARS or not model.isprintable()):
        raise BadField(f"{prefix}model: no name of a model")
    request = Request(
        messages,
        turns,
        tools,
        settings=_settings(fields, place),
        n=_decode(fields, "n", Choices | None, f"{prefix}n") or 1,
        tool_results=_tool_results(fields, tools, f"{prefix}tool_results"),
    )
    return Shaped(request, model, extra)


def _tool_results(fields: Fields, tools: tuple[Tool, ...], path: str) -> ToolResults | None:
    """Return the answers of the tools; anything but a text becomes its JSON."""
    kind = dict[str, msgspec.Raw] | list[msgspec.Raw] | None
    results = _decode(fields, "tool_results", kind, path)
    if results is None:
        return None
    names = [tool.function.name for tool in tools]
    if not names:
        raise BadField(f"{path}: there are no tools")
    if isinstance(results, list):
        return tuple(_result_text(raw) for raw in results)
    for name in results:
        if name in names:
            continue
        meant = nearest(name, names)
        cure = f"did you mean {meant}?" if meant else f"must be one of {', '.join(names)}"
        raise BadField(f"{path}.{name}: no such tool; {cure}")
    return {name: _result_text(raw) for name, raw in results.items()}


def _result_text(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode().strip()
    return str(_decoder(str).decode(raw)) if text.startswith('"') else text


def _check_order(messages: tuple[Message, ...], turns: tuple[str, ...], prefix: str) -> None:
    """Refuse a conversation with nothing to answer, or in an impossible order."""
    if not messages and not turns:
        raise BadField(f"{prefix}messages: empty, there is nothing to answer")
    leading = True
    for i, message in enumerate(messages):
        if message.role not in ("system", "developer"):
            leading = False
        elif not leading:
            raise BadField(f"{prefix}messages[{i}].role: {message.role} must come first")
        if message.role == "user" and not message.content:
            raise BadField(f"{prefix}messages[{i}].content: empty")
    for i, turn in enumerate(turns):
        if not turn:
            raise BadField(f"{prefix}turns[{i}]: empty")
    if not turns and messages[-1].role not in ("user", "tool"):
        raise BadField(
            f"{prefix}messages: the last one is from {messages[-1].role}; "
            "there is nothing to answer"
        )


def _settings(fields: Fields, place: _Place) -> dict[str, Any]:
    """Return the checked settings of a line; null means unset where it is not a value."""
    keys = sorted(fields.keys() & SETTING_KEYS)
    items = tuple((key, bytes(fields[key])) for key in keys)
    if sum(len(raw) for _, raw in items) > MAX_REMEMBERED_BYTES:
        return _checked_settings(items, place)
    return dict(_remembered_settings(items, place))


# most lines of a file have the same settings, and checking them costs more than the rest
@lru_cache(maxsize=256)
def _remembered_settings(items: tuple[tuple[str, bytes], ...], place: _Place) -> dict[str, Any]:
    return _checked_settings(items, place)


def _checked_settings(items: tuple[tuple[str, bytes], ...], place: _Place) -> dict[str, Any]:
    fields = {key: msgspec.Raw(raw) for key, raw in items}
    values: dict[str, Any] = {}
    for key in fields:
        value = _decode(fields, key, Any)
        name = ALIASES.get(key, key)
        if value is None and name not in NULLABLE:
            continue
        if values.get(name, value) != value:
            other = next(k for k in fields if k != key and ALIASES.get(k, k) == name)
            raise BadField(f"{place.prefix}{key}: differs from {other}")
        values[name] = value
    if values:
        try:
            apply(Settings(context=place.inherited), values)
        except SettingsError as error:
            raise BadField(f"{place.prefix}{error}") from None
    return values


def _unknown(fields: Fields, known: frozenset[str], prefix: str) -> dict[str, msgspec.Raw]:
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
        meant = near_miss(name, known)
        if meant is not None:
            raise BadField(f"{prefix}{name}: unknown; did you mean {meant}?")
        extra[name] = fields[name]
    return extra


def _meant(fields: Fields) -> str:
    """Return a hint for the end of a message if a key looks misspelled, else nothing."""
    for name in fields:
        meant = near_miss(name, LINE_KEYS)
        if meant is not None and meant != name:
            return f" ({name}: did you mean {meant}?)"
    return ""


def _check_tool_name(name: str, path: str) -> None:
    if not re.match(TOOL_NAME_PATTERN, name) or name.endswith("\n"):
        raise BadField(f"{path}: {name!r} is not 1 to 64 letters, digits, '_' or '-'")


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder for a type: building one costs more than a line does."""
    return msgspec.json.Decoder(kind)


def _decode(fields: Fields, name: str, kind: Any, path: str | None = None) -> Any:
    """Decode one field as `kind`; `path` names it in the error, `None` for `name`.

    A missing field is `None`, whatever the kind.
    """
    if name not in fields:
        return None
    path = path or name
    try:
        return _decoder(kind).decode(fields[name])
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise BadField(f"{path}{where.rstrip('`')}: {reason}") from None
    except msgspec.DecodeError as error:
        raise BadField(f"{path}: {error}") from None
