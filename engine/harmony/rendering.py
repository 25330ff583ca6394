"""A job's prompt as the messages that openai-harmony renders."""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import get_args

import msgspec
from openai_harmony import (
    Author,
    Content,
    DeveloperContent,
    HarmonyError,
    ReasoningEffort,
    Role,
    SystemContent,
    TextContent,
    ToolDescription,
)
from openai_harmony import Message as HarmonyMessage

from mh_batch.engine.parsing.text import clean, map_texts
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, Message, Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import Prompting
from mh_batch.jobs.settings import ReasoningEffort as Effort

from .long_runs import LongRunSplitter, refuse_long_runs
from .vocabulary import harmony_encoding

# what the renderer needs to put the control token before `json`, as gpt-oss itself writes it
_JSON_CONTENT = "<|constrain|>json"


def harmony_messages(prompt: Prompt) -> Iterator[HarmonyMessage]:
    """Yield the conversation as openai-harmony's messages.

    System and developer messages become the one developer message, guidance another behind the last
    message. Raises `JobError` for a conversation that Harmony cannot express.
    """
    system = (
        SystemContent.new()
        .with_reasoning_effort(_effort(prompt.prompting))
        .with_conversation_start_date(prompt.date)
    )
    yield HarmonyMessage.from_role_and_content(Role.SYSTEM, system)
    instructions = [m.content for m in prompt.messages if _is_instruction(m) and m.content]
    format_text = _response_format(prompt.form) if prompt.form is not None else ""
    if instructions or prompt.tools or format_text:
        yield _developer("\n\n".join(instructions), prompt.tools, format_text)
    yield from _history([m for m in prompt.messages if not _is_instruction(m)])
    if prompt.guidance:
        yield _developer(prompt.guidance)


def _effort(prompting: Prompting) -> ReasoningEffort:
    """Return the effort; of the variables of chat templates Harmony knows no other."""
    variables = prompting.chat_template_kwargs
    others = [name for name in variables if name != "reasoning_effort"]
    if others:
        raise JobError(
            f"chat_template_kwargs: gpt-oss has no variable {others[0]}; "
            "reasoning_effort (low, medium, high) is how much it thinks"
        )
    effort = variables.get("reasoning_effort", prompting.reasoning_effort)
    if effort not in get_args(Effort):
        raise JobError(f"reasoning_effort: gpt-oss takes low, medium or high, got {effort!r}")
    return ReasoningEffort(str(effort).capitalize())


def _is_instruction(message: Message) -> bool:
    return message.role in ("system", "developer")


def _developer(
    instructions: str, tools: Sequence[Tool] = (), format_text: str = ""
) -> HarmonyMessage:
    """Return a developer message; `format_text` is its last section, empty for none."""
    if format_text and instructions and not tools:
        # openai-harmony encodes each part by itself, and a text's end and a line break may be one
        # token; behind the last word of the tools they are two
        instructions, format_text = f"{instructions}\n\n{format_text}", ""
    plain = [map_texts(msgspec.to_builtins(tool), clean) for tool in tools]
    # openai-harmony takes these only in one piece
    refuse_long_runs(clean(instructions), *(json.dumps(t, ensure_ascii=False) for t in plain))
    content = DeveloperContent.new()
    if instructions:
        content = content.with_instructions(clean(instructions))
    if tools:
        content = content.with_function_tools([_description(tool) for tool in tools])
    contents: list[Content] = [content] if instructions or tools else []
    if format_text:
        contents += _contents(f"\n\n{format_text}" if contents else format_text)
    return HarmonyMessage.from_role_and_contents(Role.DEVELOPER, contents)


def _response_format(form: Form) -> str:
    """Return the section that shows a JSON form to the model; empty for forms without a place."""
    if not form.is_json:
        return ""
    schema = form.value if form.kind == "json_schema" else {"type": "object"}
    lines = [f"// {line}" for line in (form.description or "").splitlines()]
    lines.append(json.dumps(schema, ensure_ascii=False, separators=(",", ":")))
    return f"# Response Formats\n\n## {form.name or 'answer'}\n\n" + "\n".join(lines)


def _description(tool: Tool) -> ToolDescription:
    function = tool.function
    return ToolDescription.new(
        _header_name(function.name),
        clean(function.description or ""),
        map_texts(function.parameters, clean),
    )


def _header_name(name: str) -> str:
    """Return a tool's name if it may stand in a header, where text is not escaped."""
    if not re.fullmatch(TOOL_NAME_PATTERN.strip("^$"), name):
        raise JobError(f"a tool cannot be called {name!r}: letters, digits, _ and -, at most 64")
    return name


def _history(messages: Sequence[Message]) -> Iterator[HarmonyMessage]:
    """Yield the turns so far.

    Reasoning is dropped once a final text follows it, as the format asks, and kept within a chain
    of tool calls. openai-harmony itself drops only the reasoning before the FIRST final text.
    """
    answered = max((i for i, m in enumerate(messages) if _is_answer(m)), default=-1)
    names: dict[str, str] = {}
    last_call: str | None = None
    for index, message in enumerate(messages):
        if message.role == "user":
            yield HarmonyMessage.from_role_and_contents(Role.USER, _contents(message.content))
        elif message.role == "assistant":
            if message.thinking and index > answered:
                yield _said("analysis", message.thinking)
            yield from _answer(message)
            for call in message.tool_calls:
                names[call.id] = last_call = call.function.name
        else:
            name = message.name or names.get(message.tool_call_id or "") or last_call
            if name is None:
                raise JobError("a tool message answers no call and names no function")
            yield _tool_result(name, message.content)


def _is_answer(message: Message) -> bool:
    return message.role == "assistant" and not message.tool_calls


def _answer(message: Message) -> Iterator[HarmonyMessage]:
    """Yield an assistant message: a final text, or calls with their preamble."""
    if not message.tool_calls:
        yield _said("final", message.content)
        return
    if message.content:
        yield _said("commentary", message.content)
    for call in message.tool_calls:
        arguments = _said("commentary", call.function.arguments)
        recipient = f"functions.{_header_name(call.function.name)}"
        yield arguments.with_recipient(recipient).with_content_type(_JSON_CONTENT)


def _said(channel: str, text: str) -> HarmonyMessage:
    message = HarmonyMessage.from_role_and_contents(Role.ASSISTANT, _contents(text))
    return message.with_channel(channel)


def _tool_result(name: str, result: str) -> HarmonyMessage:
    author = Author.new(Role.TOOL, f"functions.{_header_name(name)}")
    message = HarmonyMessage(author=author, content=list(_contents(result)))
    return message.with_channel("commentary").with_recipient("assistant")


def _contents(text: str) -> list[Content]:
    """Return a text in parts that encode to the ids of the whole, one if it is not very long."""
    return [TextContent(text=part) for part in _splitter().parts(clean(text))]


@functools.cache
def _splitter() -> LongRunSplitter:
    encoding = harmony_encoding()

    def decode(tokens: Sequence[int]) -> str | None:
        try:
            return str(encoding.decode_utf8(tokens))
        except HarmonyError:
            return None

    return LongRunSplitter(lambda text: encoding.encode(text, disallowed_special=()), decode)
