"""Every model but gpt-oss: prompts by the model's own chat template."""

from collections.abc import Sequence
from typing import Any

import msgspec
from jinja2 import TemplateError

from mh_batch.engine.kv_cache.chunking import Boundaries
from mh_batch.engine.mlx_lm_internals import has_own_renderer, inner_tokenizer
from mh_batch.engine.parsing.closers import END, RETURN
from mh_batch.engine.parsing.judge import make_parse
from mh_batch.engine.parsing.well_formed import Section
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Parse, ParserTier, Prompt, StopReason

from .escaping import ControlTokenEscaper
from .message_ends import MessageEnds, closing, common_beginning
from .tool_calls import call_sections, notation
from .variables import Variables, pin_clock, variables

THINK, END_THINK = "<think>", "</think>"
_PROBE = "a system text to look for"
_TURN = Prompt(messages=(Message("user", "x"),), date="2025-01-01")


class NativeAdapter:
    """Renders with a chat template, encodes with the model's tokeniser.

    `<think>…</think>` at the beginning of a completion becomes the analysis channel, also where
    the template's generation prompt has opened it. Calls, in the notation that mlx-lm knows the
    model to use, become commentary to `functions.NAME`, as does the text around them; an answer
    without any is final.
    """

    name = "native"
    least_vocabulary = 0

    def __init__(self, tokenizer: Any) -> None:
        """Take mlx-lm's tokeniser; raises `ValueError` if it has no chat template that works."""
        self._wrapper = tokenizer
        self._tokenizer = inner_tokenizer(tokenizer)
        if not tokenizer.has_chat_template:
            raise ValueError("its tokeniser has no chat template")
        self.stop_tokens = frozenset(tokenizer.eos_token_ids)
        self._text = ControlTokenEscaper(self._tokenizer, _template_source(self._tokenizer))
        self._special = frozenset(
            token_id
            for token_id, token in self._tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in (THINK, END_THINK)
        )
        self.control_tokens = self._special | self.stop_tokens
        self._takes_system = self._probe_system()
        self._opens_thinking = self._probe_thinking()
        self._calls = notation(tokenizer)
        self._turns = self._special & set(self.render(_TURN))
        self._ends = MessageEnds(self.control_tokens, self._probe_closing())

    def render(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, up to and including the template's generation prompt.

        Raises `JobError` if the template refuses the conversation.
        """
        values = variables(prompt, self._text.hide, takes_system=self._takes_system)
        try:
            rendered = self._render(values, prompt.date)
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise JobError(
                f"the model's chat template does not take this conversation: {error}"
            ) from error
        return self._text.encode(rendered)

    def parse(self, tokens: Sequence[int], stop_reason: StopReason) -> Parse:
        """Read a completion, its stop token included; never raises."""
        stopped = bool(tokens) and tokens[-1] in self.stop_tokens
        content = tokens[:-1] if stopped else tokens
        closed_by = RETURN if stopped else None
        damage: tuple[str, ...] = ("control_in_content",) if self._is_forged(content) else ()
        thinking, answer = _split(self.decode(content), opened=self._opens_thinking)
        sections: list[Section] = []
        if thinking or (thinking is not None and answer is None):
            ended_by = END if answer is not None else closed_by
            if answer is None and stopped:
                damage += ("unclosed_thinking",)
            sections.append(_section("analysis", thinking, ended_by, damage))
        if answer is not None and self._calls is not None and self._calls.start in answer:
            calls = call_sections(answer, self._calls, closed_by)
            first = msgspec.structs.replace(calls[0], damage=damage + calls[0].damage)
            sections += [first, *calls[1:]]
        elif answer is not None:
            sections.append(_section("final", answer, closed_by, damage))
        swallowed = self._has_swallowed(content, [s.text for s in sections if not s.damage])
        further = ("control_in_content",) if swallowed and not damage else ()
        return make_parse(ParserTier.STRICT, sections, stop_reason, further)

    def forced_final(
        self,
        tokens: Sequence[int],  # noqa: ARG002
        most: int | None = None,  # noqa: ARG002
    ) -> tuple[int, ...]:
        """Return nothing: no template says how reasoning is broken off."""
        return ()

    def boundaries(self, prompt: Prompt, tokens: Sequence[int]) -> Boundaries:
        """Return where the parts of a rendered prompt end.

        Guidance is inside of the last user message here, so that message ends where it would
        without any. Behind a message whose place or text a template changes later (instructions in
        the last user message, reasoning that goes) nothing is shared.
        """
        instructions = self._instructions_end(tokens) if _instructs(prompt) else 0
        ends = self._ends.find(tokens)
        if not prompt.guidance:
            return Boundaries(instructions, ends, max(ends, default=len(tokens)))
        plain = self.render(msgspec.structs.replace(prompt, guidance=None))
        shared = common_beginning(tokens, plain)
        before = [end for end in self._ends.find(plain) if end <= shared]
        behind = [end for end in ends if end > shared]
        return Boundaries(instructions, (*before, *behind), max(before, default=shared))

    def _instructions_end(self, tokens: Sequence[int]) -> int:
        """Return where the second message begins: where a control token comes again first.

        0 for a template without a system role, where that is behind the first question.
        """
        seen: set[int] = set()
        for index, token in enumerate(tokens if self._takes_system else ()):
            if token in self._special:
                if token in seen:
                    return index
                seen.add(token)
        return 0

    def answer(self, tokens: Sequence[int]) -> str | None:
        """Return the text behind the reasoning so far, or `None` inside of it or of a call."""
        answer = _split(self.decode(tokens), opened=self._opens_thinking)[1]
        if answer is not None and self._calls is not None and self._calls.start in answer:
            return None
        return answer

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
        known = [token for token in tokens if 0 <= token < len(self._tokenizer)]
        return str(
            self._tokenizer.decode(
                known, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def _is_forged(self, content: Sequence[int]) -> bool:
        """Whether a completion holds control tokens: within calls, those that make up turns.

        Some families write calls with control tokens of their own, such as `[TOOL_CALLS]`.
        """
        marker = self._wrapper.tool_call_start_tokens if self._calls is not None else None
        begin = _find(content, marker) if marker else None
        if begin is None:
            return not self._special.isdisjoint(content)
        return not (
            self._special.isdisjoint(content[:begin])
            and (self._turns | self.stop_tokens).isdisjoint(content[begin:])
        )

    def _has_swallowed(self, content: Sequence[int], texts: Sequence[str]) -> bool:
        """Whether a control token was read as text: texts spell one more often than text ids do."""
        written = self.decode([token for token in content if token not in self._special])
        names = (self.decode([token]) for token in self._special.intersection(content))
        return any(sum(text.count(name) for text in texts) > written.count(name) for name in names)

    def _render(self, values: Variables, day: str) -> str:
        """Return the prompt's text."""
        keywords = {"tokenize": False, "add_generation_prompt": True, **values.keywords}
        if has_own_renderer(self._wrapper):
            return str(self._wrapper.apply_chat_template(values.messages, **keywords))
        template = self._tokenizer.get_chat_template(None, keywords.get("tools"))
        keywords["chat_template"] = pin_clock(template, day)
        return str(self._tokenizer.apply_chat_template(values.messages, **keywords))

    def _render_probe(self, *messages: Message) -> str:
        prompt = Prompt(messages=messages, date="2025-01-01")
        return self._render(variables(prompt, str, takes_system=True), prompt.date)

    def _probe_system(self) -> bool:
        """Whether the template takes a system message, and does not lose it."""
        try:
            return _PROBE in self._render_probe(Message("system", _PROBE), Message("user", "x"))
        except TemplateError:
            return False

    def _probe_closing(self) -> tuple[int, ...]:
        """Return what the template writes behind a question, whether or not it is the last one."""
        question, answer = _TURN.messages[0], Message("assistant", "z")

        def asked(*messages: Message) -> list[int]:
            return self.render(msgspec.structs.replace(_TURN, messages=messages))

        try:
            later = asked(question, answer, question)
        except JobError:
            return ()
        return closing(asked(question), asked(Message("user", "y")), later)

    def _probe_thinking(self) -> bool:
        """Whether the generation prompt leaves `<think>` open."""
        try:
            return self._render_probe(Message("user", "x")).rstrip().endswith(THINK)
        except TemplateError as error:
            raise ValueError(f"its chat template does not work: {error}") from error


def _instructs(prompt: Prompt) -> bool:
    """Whether there are instructions or tools for a system message."""
    roles = ("system", "developer")
    return bool(prompt.tools) or any(m.role in roles and m.content for m in prompt.messages)


def _template_source(tokenizer: Any) -> str:
    """Return the template's text; several templates in one tokeniser count together."""
    template = getattr(tokenizer, "chat_template", None)
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


def _split(text: str, *, opened: bool) -> tuple[str | None, str | None]:
    """Return reasoning and answer, each `None` if the completion did not come to it."""
    begun = text.lstrip()
    if begun.startswith(THINK):
        begun = begun.removeprefix(THINK)
    elif not opened:
        return None, text
    thinking, end, answer = begun.partition(END_THINK)
    return thinking.strip(), answer.lstrip() if end else None


def _section(
    channel: str, text: str, closed_by: int | None, damage: tuple[str, ...] = ()
) -> Section:
    return Section("assistant", channel, None, None, text, closed_by, damage)


def _find(tokens: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Return where `wanted` stands first in `tokens`, `None` if it does not."""
    count = len(wanted)
    places = range(len(tokens) - count + 1)
    return next((at for at in places if tuple(tokens[at : at + count]) == tuple(wanted)), None)
