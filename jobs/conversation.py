"""A conversation as a user writes it, in the field names of the OpenAI chat format."""

from hashlib import blake2b
from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]

# Tool names go into a prompt's header, so not every text is allowed.
TOOL_NAME_PATTERN = "^[A-Za-z0-9_-]{1,64}$"

_ORDER_BITS = 31


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an assistant called: the function's name and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call in an assistant message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class FunctionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function the model may call; `parameters` is a JSON schema, `None` for no parameters."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool as the OpenAI format declares it."""

    function: FunctionSpec
    type: Literal["function"] = "function"


# not tracked by the garbage collector: a line may have a million, and they form no cycles
class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One message of the context or of the history.

    `thinking` is an assistant's reasoning (Harmony's analysis channel); adapters drop it where
    the format of the model requires that. `name` names the tool of a `tool` message.
    """

    role: Role
    content: str = ""
    thinking: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


ToolResults = dict[str, str] | tuple[str, ...]
"""Answers of tools: by function name, the same every time, or one after the other."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one job asks for: context, further user turns, tools, its own settings.

    `settings` are the values the line itself set, by flat name; they were checked when the line
    was read and win over the batch's. `n` is the number of completions, each with seeds of its
    own. `tool_results` lets the conversation go on after a call; `None` ends it there.
    """

    messages: tuple[Message, ...] = ()
    turns: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    settings: dict[str, Any] = {}
    n: int = 1
    tool_results: ToolResults | None = None

    @property
    def asks(self) -> bool:
        """Whether the context itself needs an answer before the first of `turns`."""
        return bool(self.messages) and self.messages[-1].role in ("user", "tool")


def answers(
    calls: tuple[ToolCall, ...], results: ToolResults, used: int
) -> tuple[Message, ...] | None:
    """Return the tool messages that answer `calls`, in order; `None` if one has no answer.

    `used` is how many entries of a list earlier calls of the conversation used; a map gives a
    function the same answer every time.
    """
    found: list[Message] = []
    for position, call in enumerate(calls, start=used):
        name = call.function.name
        if isinstance(results, dict):
            text = results.get(name)
        else:
            text = results[position] if position < len(results) else None
        if text is None:
            return None
        found.append(Message("tool", text, name=name, tool_call_id=call.id))
    return tuple(found)


def prefix_key(request: Request) -> int:
    """Return a number that sorts jobs with the same beginning together.

    It is the same for requests with the same beginning, never 0. Its upper half hashes the
    instructions and tools, its lower half all messages but the last: jobs with the same
    instructions follow one another, and among them those with the same conversation.
    """
    leading = [m for m in request.messages if m.role in ("system", "developer")]
    upper = _hash((leading, request.tools))
    return (upper << _ORDER_BITS | _hash(request.messages[:-1])) or 1


def _hash(value: object) -> int:
    digest = blake2b(msgspec.msgpack.encode(value), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
