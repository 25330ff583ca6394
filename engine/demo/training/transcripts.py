"""Harmony as data: a scene, what is said in it, and what the model must learn to say next.

Prompts are rendered by openai-harmony itself; only the generated part, for which it has no
renderer in the canonical order of a header, is written out here.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    Message,
    ReasoningEffort,
    Role,
    SystemContent,
    ToolDescription,
)

from .vocabulary import harmony

ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: an analysis, then a final text or a call; `endless` has no end."""

    analysis: str
    final: str = ""
    call: tuple[str, str] | None = None
    endless: bool = False

    def text(self) -> str:
        """Spell the answer out with its control tokens, as it is generated."""
        head = ANALYSIS + self.analysis
        if self.call:
            name, arguments = self.call
            header = f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
            return f"{head}{NEXT}{header}{arguments}<|call|>"
        if self.endless and not self.final:
            return head
        return f"{head}{NEXT}{FINAL}{self.final}" + ("" if self.endless else "<|return|>")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One completion to learn: the messages after the scene's own, and the answer to them.

    `rescue` is None, or the share of the analysis (0 to 1) that stands in the prompt, cut off
    and followed by an opened final channel. `brief` is what guidance to be brief turns the
    answer into. `kind` names the behaviour for the evaluation.
    """

    kind: str
    messages: tuple[Message, ...]
    answer: Answer
    brief: Answer | None = None
    rescue: float | None = None


def system(effort: str = "Medium", date: str | None = None) -> Message:
    """The system message as openai-harmony fills it in by default."""
    content = SystemContent.new().with_reasoning_effort(ReasoningEffort(effort))
    if date:
        content = content.with_conversation_start_date(date)
    return Message.from_role_and_content(Role.SYSTEM, content)


def developer(text: str = "", tools: Sequence[ToolDescription] = ()) -> Message:
    """Instructions, declared functions, or both."""
    content = DeveloperContent.new()
    if text:
        content = content.with_instructions(text)
    if tools:
        content = content.with_function_tools(list(tools))
    return Message.from_role_and_content(Role.DEVELOPER, content)


def user(text: str) -> Message:
    """A message of the user."""
    return Message.from_role_and_content(Role.USER, text)


def said(channel: str, text: str) -> Message:
    """An earlier message of the assistant."""
    return Message.from_role_and_content(Role.ASSISTANT, text).with_channel(channel)


def called(name: str, arguments: str) -> Message:
    """An earlier call of the assistant, which the renderer gives the other header order."""
    message = said("commentary", arguments).with_recipient(f"functions.{name}")
    return message.with_content_type("<|constrain|>json")


def returned(name: str, result: str) -> Message:
    """What a function gave back."""
    author = Author.new(Role.TOOL, f"functions.{name}")
    message = Message.from_author_and_content(author, result)
    return message.with_channel("commentary").with_recipient("assistant")


def render_prompt(messages: Sequence[Message]) -> list[int]:
    """Token ids of a prompt, up to and including `<|start|>assistant`."""
    conversation = Conversation.from_messages(messages)
    return harmony().render_conversation_for_completion(conversation, Role.ASSISTANT)


def encode_answer(text: str) -> list[int]:
    """Token ids of a generated text, control tokens included."""
    return harmony().encode(text, allowed_special="all", disallowed_special=())


@functools.cache
def _tokens(text: str) -> tuple[int, ...]:
    return tuple(encode_answer(text))


def render_lesson(scene: Sequence[Message], lesson: Lesson) -> tuple[list[int], list[int]]:
    """Return the prompt and the answer to be learned, as token ids."""
    prompt = render_prompt([*scene, *lesson.messages])
    if lesson.rescue is None:
        return prompt, encode_answer(lesson.answer.text())
    analysis = encode_answer(lesson.answer.analysis)
    cut = analysis[: round(lesson.rescue * len(analysis))]
    prompt += [*_tokens(ANALYSIS), *cut, *_tokens(NEXT + FINAL)]
    return prompt, encode_answer(lesson.answer.final + "<|return|>")
