"""The adapter for every model but gpt-oss: prompts by the model's own chat template."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2 import TemplateError

from mh_batch.engine.constraint.bounds import bounds_of
from mh_batch.engine.constraint.tables import tables_of_hugging_face
from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.engine.mlx_lm_internals import inner_tokenizer
from mh_batch.jobs.conversation import Message, Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Parse, Prompt, StopReason
from mh_batch.jobs.settings import Prompting

from .escaping import ControlTokenEscaper
from .grammar.completion import CompletionGrammar
from .message_ends import MessageEnds, closing, common_beginning
from .parser import CompletionParser
from .template import ChatTemplate
from .variables import variables

if TYPE_CHECKING:
    from llguidance import LLTokenizer

PLAIN = Prompting()
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError)
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
        self._tokenizer = inner_tokenizer(tokenizer)
        self._template = ChatTemplate(tokenizer)
        self._parser = CompletionParser(tokenizer)
        self._grammars = {
            opened: CompletionGrammar(
                tokenizer,
                opens_thinking=opened,
                writes_thinking=self._template.writes_thinking,
            )
            for opened in (False, True)
        }
        self.stop_tokens = frozenset(tokenizer.eos_token_ids)
        self.control_tokens = self._parser.special | self.stop_tokens
        self._escaper = ControlTokenEscaper(self._tokenizer, self._template.source)
        self._turn_tokens = self._parser.special & set(self.render(_TURN))
        self._ends = MessageEnds(self.control_tokens, self._probe_closing())

    def render(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, up to and including the template's generation prompt.

        Raises `JobError` if the template refuses the conversation.
        """
        takes_system = self._template.takes_system
        if wrong := self._template.misspelt(prompt.prompting.chat_template_kwargs):
            raise JobError(
                f"chat_template_kwargs: the model's template has no variable {wrong[0]}; "
                f"did you mean {wrong[1]}?"
            )
        values = variables(prompt, self._escaper.escape, takes_system=takes_system)
        try:
            rendered = self._template.render(values, prompt.date)
        except _TEMPLATE_ERRORS as error:
            raise JobError(
                f"the model's chat template does not take this conversation: {error}"
            ) from error
        return self._escaper.encode(rendered)

    def parse(
        self,
        tokens: Sequence[int],
        stop_reason: StopReason,
        tools: Sequence[Tool] = (),
        prompting: Prompting = PLAIN,
    ) -> Parse:
        """Read a completion, its stop token included; never raises."""
        how = (self._turn_tokens, tools)
        return self._parser.parse(tokens, stop_reason, *how, opened=self._opens(prompting))

    def grammar(self, prompt: Prompt) -> str | None:
        """Return the grammar of the whole completion, `None` where nothing binds it.

        Raises `JobError` if it may hold calls in a notation that cannot be bound.
        """
        bounds = bounds_of(prompt)
        if bounds is None:
            return None
        return self._grammars[self._opens(prompt.prompting)].grammar(bounds)

    def forced_final(
        self,
        tokens: Sequence[int],  # noqa: ARG002
        most: int | None = None,  # noqa: ARG002
    ) -> tuple[int, ...]:
        """Return nothing: chat templates have no way to break reasoning off."""
        return ()

    def prompt_parts(self, prompt: Prompt, tokens: Sequence[int]) -> PromptParts:
        """Return where the parts of a rendered prompt end.

        Guidance is inside the last user message here, so that message ends where it would without
        guidance. Nothing is shared behind a message that a template changes later (instructions in
        the last user message, reasoning that it drops).
        """
        instructions = self._instructions_end(tokens) if _has_instructions(prompt) else 0
        ends = self._ends.find(tokens)
        if not prompt.guidance:
            return PromptParts(instructions, ends, max(ends, default=len(tokens)))
        plain = self.render(msgspec.structs.replace(prompt, guidance=None))
        shared = common_beginning(tokens, plain)
        before = [end for end in self._ends.find(plain) if end <= shared]
        behind = [end for end in ends if end > shared]
        return PromptParts(instructions, (*before, *behind), max(before, default=shared))

    def answer(
        self, tokens: Sequence[int], tools: Sequence[Tool] = (), prompting: Prompting = PLAIN
    ) -> str | None:
        """Return the text behind the reasoning so far, or `None` inside reasoning or a call."""
        return self._parser.answer(tokens, tools, opened=self._opens(prompting))

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
        return self._parser.decode(tokens)

    def token_tables(self) -> "LLTokenizer":
        """Return llguidance's tables of the model's tokeniser; all `stop_tokens` are end tokens.

        Raises `JobError` for a tokeniser that llguidance cannot read.
        """
        return tables_of_hugging_face(self._tokenizer, self.stop_tokens)

    def _opens(self, prompting: Prompting) -> bool:
        """Whether a completion begins inside reasoning; not where the template takes no prompt."""
        try:
            return self._template.opens_thinking(prompting)
        except _TEMPLATE_ERRORS:
            return False

    def _instructions_end(self, tokens: Sequence[int]) -> int:
        """Return where the second message begins: at the first control token that comes again.

        0 for a template without a system role: there it would be behind the first question.
        """
        seen: set[int] = set()
        for index, token in enumerate(tokens if self._template.takes_system else ()):
            if token in self._parser.special:
                if token in seen:
                    return index
                seen.add(token)
        return 0

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


def _has_instructions(prompt: Prompt) -> bool:
    """Whether there are instructions or tools for a system message."""
    roles = ("system", "developer")
    return bool(prompt.tools) or any(m.role in roles and m.content for m in prompt.messages)
