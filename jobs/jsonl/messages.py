"""The messages of a line, in the spellings of all its shapes."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from mh_batch.jobs.conversation import Message, Role, ToolCall

from .fields import SYSTEM_KEYS, BadField, Fields, check_tool_name, decode_field

T = TypeVar("T")

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


def alpaca_messages(fields: Fields) -> tuple[Message, ...]:
    """Join an instruction and its input, after the pairs of question and answer of `history`."""
    history = decode_field(fields, "history", list[tuple[str, str]] | None) or []
    parts = (decode_field(fields, "instruction", str), decode_field(fields, "input", str | None))
    earlier = [
        Message(role, text)
        for pair in _used_up(history)
        for role, text in zip(TALK, pair, strict=True)
    ]
    return (*earlier, Message("user", "\n\n".join(part for part in parts if part)))


def chat_messages(fields: Fields, path: str) -> tuple[Message, ...]:
    """Decode OpenAI chat messages."""
    wire = decode_field(fields, "messages", list[WireMessage], path)
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
        check_tool_name(call.function.name, f"{path}.tool_calls[{i}].function.name")
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
        check_tool_name(name, f"{path}.name")
    return Message(
        role=wire.role,
        content=content,
        thinking=wire.thinking or wire.reasoning_content or wire.reasoning,
        name=name,
        tool_calls=calls,
        tool_call_id=wire.tool_call_id,
    )


def sharegpt_messages(entries: list[ShareGptTurn]) -> tuple[Message, ...]:
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


def with_system(fields: Fields, messages: tuple[Message, ...], prefix: str) -> tuple[Message, ...]:
    """Return the messages behind the system message that stands beside them, if one does."""
    given = [name for name in SYSTEM_KEYS if name in fields]
    found = {name: _system(fields, name, f"{prefix}{name}") for name in given}
    texts = {name: text for name, text in found.items() if text is not None}
    if not texts:
        return messages
    name = next(iter(texts))
    if len(set(texts.values())) > 1:
        raise BadField(f"{prefix}{SYSTEM_KEYS[1]}: differs from {SYSTEM_KEYS[0]}")
    if any(m.role in ("system", "developer") for m in messages):
        raise BadField(f"{prefix}{name}: the messages already begin with one")
    return (Message("system", texts[name]), *messages)


def _system(fields: Fields, name: str, path: str) -> str | None:
    """Return a system message: a text, or text parts as Anthropic's."""
    found = decode_field(fields, name, str | list[TextPart] | None, path)
    return "".join(part.text for part in found) if isinstance(found, list) else found
