"""A job's prompt as the variables of a Hugging Face chat template."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from mh_batch.engine.parsing.text import clean, map_texts
from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.generation import Prompt

Escape = Callable[[str], str]

_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


class Variables(NamedTuple):
    """What a template is rendered with; `keywords` hold tools, effort, date and the user's own."""

    messages: list[dict[str, Any]]
    keywords: dict[str, Any]


def variables(prompt: Prompt, escape: Escape, *, takes_system: bool) -> Variables:
    """Return the template's variables, every text passed through `escape`.

    System and developer messages become one system message, or the beginning of the first
    user message for a template that has no such role. Guidance ends the last user message.
    """

    def text(value: str) -> str:
        return escape(clean(value))

    keywords: dict[str, Any] = {
        "reasoning_effort": prompt.prompting.reasoning_effort,
        **_date_keywords(prompt.date),
    }
    for name, value in prompt.prompting.chat_template_kwargs.items():
        keywords[name] = text(value) if isinstance(value, str) else value
    if prompt.tools:
        tools = msgspec.to_builtins(prompt.tools)
        keywords["tools"] = [map_texts(tool, text) for tool in tools]
    messages = _with_guidance(_with_system(prompt.messages, takes_system), prompt.guidance)
    return Variables([_message(message, text) for message in messages], keywords)


def pin_clock(template: str, day: str) -> str:
    """Return a template's source with its calls for the current date answered by `day` (ISO).

    In the source, because transformers passes no functions to a template.
    """
    try:
        today = datetime.fromisoformat(day)
    except ValueError:
        return template
    return _CLOCK.sub(lambda asked: json.dumps(today.strftime(asked[2])), template)


def _date_keywords(day: str) -> dict[str, Any]:
    """Return the date under the name that Llama's templates use before the current date."""
    try:
        return {"date_string": datetime.fromisoformat(day).strftime("%d %b %Y")}
    except ValueError:
        return {}


def _with_system(messages: Sequence[Message], takes_system: bool) -> list[Message]:
    """Return the messages with all instructions joined at their beginning."""
    roles = ("system", "developer")
    instructions = "\n\n".join(m.content for m in messages if m.role in roles and m.content)
    others = [message for message in messages if message.role not in roles]
    if not instructions:
        return others
    if takes_system:
        return [Message("system", instructions), *others]
    for index, message in enumerate(others):
        if message.role == "user":
            folded = f"{instructions}\n\n{message.content}"
            others[index] = msgspec.structs.replace(message, content=folded)
            return others
    return [Message("user", instructions), *others]


def _with_guidance(messages: list[Message], guidance: str | None) -> list[Message]:
    """Return the messages with `guidance` as the last paragraph of the last user message."""
    if not guidance:
        return messages
    for index in reversed(range(len(messages))):
        message = messages[index]
        if message.role == "user":
            guided = f"{message.content}\n\n{guidance}"
            messages[index] = msgspec.structs.replace(message, content=guided)
            return messages
    return [*messages, Message("user", guidance)]


def _message(message: Message, text: Escape) -> dict[str, Any]:
    """Return one message in the names that templates know."""
    found: dict[str, Any] = {"role": message.role, "content": text(message.content)}
    if message.thinking:
        found["reasoning_content"] = text(message.thinking)
    if message.name:
        found["name"] = text(message.name)
    if message.tool_calls:
        found["tool_calls"] = [_call(call, text) for call in message.tool_calls]
    if message.tool_call_id:
        found["tool_call_id"] = text(message.tool_call_id)
    return found


def _call(call: ToolCall, text: Escape) -> dict[str, Any]:
    """Return a call with its arguments decoded, since most templates encode them themselves."""
    try:
        arguments = json.loads(call.function.arguments)
    except (ValueError, RecursionError):
        arguments = None
    decoded = isinstance(arguments, dict)
    return {
        "id": text(call.id),
        "type": call.type,
        "function": {
            "name": text(call.function.name),
            "arguments": map_texts(arguments if decoded else call.function.arguments, text),
        },
    }
