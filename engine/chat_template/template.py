"""A model's chat template: renders it to text, and finds out what it does by trying it."""

from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from jinja2 import Environment, TemplateError
from jinja2.meta import find_undeclared_variables

from mh_batch.engine.mlx_lm_internals import has_own_renderer, inner_tokenizer
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.did_you_mean import near_miss
from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import Prompting

from .thinking import THINK
from .variables import Variables, pin_clock, variables

PLAIN = Prompting()
_SYSTEM = "a system text to look for"


class ChatTemplate:
    """The chat template of one model.

    `takes_system` is whether it renders a system message.
    """

    def __init__(self, wrapper: Any) -> None:
        """Take mlx-lm's tokeniser; raises `ValueError` if it has no chat template that works."""
        if not wrapper.has_chat_template:
            raise ValueError("its tokeniser has no chat template")
        self._wrapper = wrapper
        self._tokenizer = inner_tokenizer(wrapper)
        self.takes_system = self._probe_system()
        self._opens_thinking = lru_cache(maxsize=256)(self._probe_thinking)
        try:
            self.opens_thinking(Prompting())
        except TemplateError as error:
            raise ValueError(f"its chat template does not work: {error}") from error

    def opens_thinking(self, prompting: Prompting) -> bool:
        """Whether the generation prompt leaves `<think>` open; raises what the template raises."""
        return self._opens_thinking(msgspec.json.encode(prompting))

    @property
    def source(self) -> str:
        """The template's text; several templates in one tokeniser count together."""
        template = getattr(self._tokenizer, "chat_template", None)
        return "\n".join(template.values()) if isinstance(template, dict) else template or ""

    @property
    def writes_thinking(self) -> bool:
        """Whether the model may begin reasoning itself: its template or its vocabulary has tags."""
        return THINK in self.source or THINK in self._tokenizer.get_vocab()

    def misspelt(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Return a name that is almost one of the template's variables, and that; else `None`."""
        for name in names:
            if name not in self._variables and (meant := near_miss(name, self._variables)):
                return name, meant
        return None

    @cached_property
    def _variables(self) -> frozenset[str]:
        """The names that the template reads; none of one that only transformers can parse."""
        environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True)
        try:
            return frozenset(find_undeclared_variables(environment.parse(self.source)))
        except TemplateError:
            return frozenset()

    def render(self, values: Variables, day: str) -> str:
        """Return the prompt's text; raises whatever the template or jinja raises."""
        keywords = {"tokenize": False, "add_generation_prompt": True, **values.keywords}
        if has_own_renderer(self._wrapper):
            return str(self._wrapper.apply_chat_template(values.messages, **keywords))
        template = self._tokenizer.get_chat_template(None, keywords.get("tools"))
        keywords["chat_template"] = pin_clock(template, day)
        return str(self._tokenizer.apply_chat_template(values.messages, **keywords))

    def _render_probe(self, *messages: Message, prompting: Prompting = PLAIN) -> str:
        prompt = Prompt(messages=messages, date="2025-01-01", prompting=prompting)
        return self.render(variables(prompt, str, takes_system=True), prompt.date)

    def _probe_system(self) -> bool:
        """Whether the template accepts a system message, and renders its text."""
        try:
            return _SYSTEM in self._render_probe(Message("system", _SYSTEM), Message("user", "x"))
        except TemplateError:
            return False

    def _probe_thinking(self, prompting: bytes) -> bool:
        asked = msgspec.json.decode(prompting, type=Prompting)
        return self._render_probe(Message("user", "x"), prompting=asked).rstrip().endswith(THINK)
