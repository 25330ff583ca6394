"""The whole completion of a model with a chat template as one grammar; its reasoning is free."""

from collections.abc import Iterator, Sequence
from typing import Any

from mh_batch.engine.chat_template.thinking import END_THINK, THINK
from mh_batch.engine.constraint.bounds import Bounds, Call
from mh_batch.engine.constraint.forms import (
    NOT_BLANK,
    form_grammar,
    joined,
)
from mh_batch.engine.mlx_lm_internals import inner_tokenizer
from mh_batch.jobs.errors import JobError

from .calls import CallRules, call_rules, notation_name
from .spelling import speller, without

_ANSWER = "answer"
_SPACE = r"SPACE: /[ \t\r\n]{0,8}/"


class CompletionGrammar:
    """Makes the grammars for one model."""

    def __init__(self, wrapper: Any, *, opens_thinking: bool, writes_thinking: bool) -> None:
        """Take mlx-lm's tokeniser.

        `opens_thinking` is whether the generation prompt leaves `<think>` open, `writes_thinking`
        whether the model may write it itself.
        """
        self._wrapper = wrapper
        self._spell = speller(inner_tokenizer(wrapper))
        self._opens_thinking = opens_thinking
        self._writes_thinking = writes_thinking

    def grammar(self, bounds: Bounds) -> str | None:
        """Return the grammar of the completions that `bounds` allow.

        `None` if nothing is bound: no calls wanted of a model whose calls are read as text anyway.
        Raises `JobError` if calls are wanted in a notation that is not known here.
        """
        # what a model writes in no notation that is known is read as text
        calls = bounds.calls if self._marker is not None or bounds.binds_calls else ()
        if bounds.form is None and not calls and self._marker is None:
            return None
        bound = self._call_rules(calls)
        rules, parts = [_SPACE, *self._thinking_rules(), *bound.rules], list(bound.parts)
        if bounds.form is not None:
            parts.append(form_grammar(bounds.form, _ANSWER))
        else:
            rules.append(f"TEXT: {without(self._marker)} & {NOT_BLANK}")
        ends = " | ".join(_ends(bounds, calls=bool(calls)))
        return joined([f"start: {self._thinking()} end", f"end: {ends}", *rules], parts)

    @property
    def _marker(self) -> str | None:
        """What begins a call, `None` if the model's notation is not known."""
        return self._wrapper.tool_call_start if self._wrapper.has_tool_calling else None

    def _thinking(self) -> str:
        if self._opens_thinking:
            return "thought"
        return "(SPACE begin thought)?" if self._writes_thinking else ""

    def _thinking_rules(self) -> list[str]:
        """Return the rules of reasoning, up to the white space behind it."""
        if not self._opens_thinking and not self._writes_thinking:
            return []
        ending, thought = self._spell(END_THINK), without(END_THINK)
        rules = [f"begin: {self._spell(THINK)}"]
        if ending.startswith("<["):
            return [*rules, f"thought: THOUGHT {ending} SPACE", f"THOUGHT: {thought}"]
        # in one piece with its end, so that the reasoning ends at the first of them
        return [*rules, "thought: THOUGHT SPACE", f"THOUGHT: ({thought}) {ending}"]

    def _call_rules(self, calls: Sequence[Call]) -> CallRules:
        if not calls:
            return CallRules([], [])
        known = self._marker is not None
        rules = call_rules(self._wrapper, calls) if known else None
        if rules is None:
            notation = notation_name(self._wrapper) if known else "this model"
            raise JobError(
                f"calls in the notation of {notation} cannot be bound: leave tool_choice at auto, "
                "tools without strict, and answers without a form"
            )
        return rules


def _ends(bounds: Bounds, *, calls: bool) -> Iterator[str]:
    """Yield what a completion may end with: the answer, or calls behind a word to the user."""
    if bounds.answers and bounds.form is not None:
        # sentencepiece's models begin a text with a space, which JSON may have
        yield f"SPACE @{_ANSWER}" if bounds.form.is_json else f"@{_ANSWER}"
    elif bounds.answers:
        yield "TEXT"
    if calls:
        yield "SPACE calls SPACE"
        if bounds.answers and bounds.form is None:
            yield "TEXT calls SPACE"
