"""The answers of scripted tools to the calls of an assistant."""

from .conversation import Message, ToolCall, ToolResults


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
