"""gpt-oss: prompts and completions in the Harmony format, tokenised by openai-harmony."""

import functools
import json
import re
from collections.abc import Iterator, Sequence

import msgspec
from openai_harmony import (
    Author,
    Content,
    Conversation,
    DeveloperContent,
    HarmonyError,
    ReasoningEffort,
    Role,
    SystemContent,
    TextContent,
    ToolDescription,
)
from openai_harmony import Message as HarmonyMessage

from mh_batch.engine.kv_cache.chunking import Boundaries
from mh_batch.engine.parsing.text import clean, clean_tree
from mh_batch.jobs.conversation import TOOL_NAME_PATTERN, Message, Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Parse, Prompt, StopReason

from .forced_final import forced_final_prefill
from .long_runs import LongRunSplitter, refuse_unbroken
from .parse_ladder import parse_harmony
from .special_tokens import CHANNEL, CONTROLS, MESSAGE, START, VOCABULARY_SIZE, is_text, spell
from .vocabulary import harmony_encoding

# what the renderer needs to put the control token before `json`, as gpt-oss itself writes it
_JSON_CONTENT = "<|constrain|>json"


class HarmonyAdapter:
    """Renders and reads Harmony; needs no tokenizer file."""

    name = "harmony"
    control_tokens = CONTROLS
    least_vocabulary = VOCABULARY_SIZE

    def __init__(self) -> None:
        self._encoding = harmony_encoding()
        self.stop_tokens = frozenset(self._encoding.stop_tokens_for_assistant_actions())
        self._instructors = frozenset(
            self._encoding.encode(role.value)[0] for role in (Role.SYSTEM, Role.DEVELOPER)
        )

    def render(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, up to and including `<|start|>assistant`.

        System and developer messages become the one developer message, guidance another behind
        the last message. Raises `JobError` if a tool result belongs to no call, or if a tool's
        name cannot stand in a header.
        """
        conversation = Conversation.from_messages(list(_messages(prompt)))
        try:
            return list(
                self._encoding.render_conversation_for_completion(conversation, Role.ASSISTANT)
            )
        except (HarmonyError, ValueError) as error:
            raise JobError(f"openai-harmony does not render this conversation: {error}") from error

    def parse(self, tokens: Sequence[int], stop_reason: StopReason) -> Parse:
        """Read a completion, its stop token included; never raises."""
        return parse_harmony(tokens, stop_reason)

    def forced_final(self, tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
        """Return the analysis of `tokens`, ended, and the header of a final message.

        Empty unless `tokens` end inside of that analysis: where a parse says `analysis_not_ended`.
        """
        return forced_final_prefill(tokens, most)

    def boundaries(self, prompt: Prompt, tokens: Sequence[int]) -> Boundaries:
        """Return where the parts of a rendered prompt end.

        A message ends behind the `<|start|>` of what follows: that token stands there whether it is
        the next message, guidance or the answer.
        """
        starts = [at + 1 for at, token in enumerate(tokens[:-1]) if token == START]
        instructions = next((at for at in starts if tokens[at] not in self._instructors), 0)
        messages = tuple(at for at in starts if at > instructions)
        # in front of the answer's own, where there is guidance
        shared = messages[:-1] if prompt.guidance else messages
        return Boundaries(instructions, messages, max(shared, default=instructions))

    def answer(self, tokens: Sequence[int]) -> str | None:
        """Return the text of an open final message so far, or `None` outside of one.

        Tokens without any structure are an answer, as they are to the parser.
        """
        text = len(tokens)
        while text and is_text(tokens[text - 1]):
            text -= 1
        if not text:
            return spell(tokens)
        if tokens[text - 1] != MESSAGE:
            return None
        name = text - 1
        while name and is_text(tokens[name - 1]):
            name -= 1
        if not name or tokens[name - 1] != CHANNEL:
            return None
        return spell(tokens[text:]) if spell(tokens[name : text - 1]).strip() == "final" else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
        return spell(tokens)


def _messages(prompt: Prompt) -> Iterator[HarmonyMessage]:
    """Yield the conversation as openai-harmony's messages."""
    system = (
        SystemContent.new()
        .with_reasoning_effort(ReasoningEffort(prompt.prompting.reasoning_effort.capitalize()))
        .with_conversation_start_date(prompt.date)
    )
    yield HarmonyMessage.from_role_and_content(Role.SYSTEM, system)
    instructions = [m.content for m in prompt.messages if _is_instruction(m) and m.content]
    if instructions or prompt.tools:
        yield _developer("\n\n".join(instructions), prompt.tools)
    yield from _history([m for m in prompt.messages if not _is_instruction(m)])
    if prompt.guidance:
        yield _developer(prompt.guidance)


def _is_instruction(message: Message) -> bool:
    return message.role in ("system", "developer")


def _developer(instructions: str, tools: Sequence[Tool] = ()) -> HarmonyMessage:
    told = [clean_tree(msgspec.to_builtins(tool)) for tool in tools]
    # openai-harmony takes these in one piece only
    refuse_unbroken(clean(instructions), *(json.dumps(t, ensure_ascii=False) for t in told))
    content = DeveloperContent.new()
    if instructions:
        content = content.with_instructions(clean(instructions))
    if tools:
        content = content.with_function_tools([_description(tool) for tool in tools])
    return HarmonyMessage.from_role_and_content(Role.DEVELOPER, content)


def _description(tool: Tool) -> ToolDescription:
    function = tool.function
    return ToolDescription.new(
        _header_name(function.name),
        clean(function.description or ""),
        clean_tree(function.parameters),
    )


def _header_name(name: str) -> str:
    """Return a tool's name if it may stand in a header, where no text is mere data."""
    if not re.fullmatch(TOOL_NAME_PATTERN.strip("^$"), name):
        raise JobError(f"a tool cannot be called {name!r}: letters, digits, _ and -, at most 64")
    return name


def _history(messages: Sequence[Message]) -> Iterator[HarmonyMessage]:
    """Yield the turns so far.

    Reasoning is dropped once a final text follows it, as the format asks, and kept within a tool
    chain. openai-harmony by itself drops only what stands before the FIRST final text.
    """
    settled = max((i for i, m in enumerate(messages) if _is_answer(m)), default=-1)
    names: dict[str, str] = {}
    last_call: str | None = None
    for index, message in enumerate(messages):
        if message.role == "user":
            yield HarmonyMessage.from_role_and_contents(Role.USER, _contents(message.content))
        elif message.role == "assistant":
            if message.thinking and index > settled:
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
    """Yield what the assistant said aloud: a final text, or calls with their preamble."""
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
    return [TextContent(text=part) for part in _cutter().parts(clean(text))]


@functools.cache
def _cutter() -> LongRunSplitter:
    encoding = harmony_encoding()

    def decode(tokens: Sequence[int]) -> str | None:
        try:
            return str(encoding.decode_utf8(tokens))
        except HarmonyError:
            return None

    return LongRunSplitter(lambda text: encoding.encode(text, disallowed_special=()), decode)
