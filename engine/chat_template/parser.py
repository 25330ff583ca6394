"""Reads completions of models with a chat template: reasoning, calls and answer."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from mh_batch.engine.mlx_lm_internals import inner_tokenizer
from mh_batch.engine.parsing.judge import make_parse
from mh_batch.engine.parsing.message import END, RETURN, ParsedMessage
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.generation import Parse, ParserTier, StopReason

from .thinking import END_THINK, THINK, split_thinking
from .tool_calls import Notation, call_messages, notation


class CompletionParser:
    """Parses the completions of one model.

    `special` are the ids of control tokens, but for those around reasoning.
    """

    def __init__(self, wrapper: Any) -> None:
        """Take mlx-lm's tokeniser."""
        self._tokenizer = inner_tokenizer(wrapper)
        self._calls = notation(wrapper)
        self._call_marker = wrapper.tool_call_start_tokens if self._calls is not None else None
        self._stop_tokens = frozenset(wrapper.eos_token_ids)
        self.special = frozenset(
            token_id
            for token_id, token in self._tokenizer.added_tokens_decoder.items()
            if token.special and token.content not in (THINK, END_THINK)
        )

    def parse(
        self,
        tokens: Sequence[int],
        stop_reason: StopReason,
        turn_tokens: Collection[int],
        tools: Sequence[Tool] = (),
        *,
        opened: bool,
    ) -> Parse:
        """Read a completion, its stop token included; never raises.

        `turn_tokens` are the control tokens that a turn is made of, `tools` what may be called.
        `opened` is whether the generation prompt leaves `<think>` open.
        """
        how = self._notation(tools)
        stopped = bool(tokens) and tokens[-1] in self._stop_tokens
        content = tokens[:-1] if stopped else tokens
        closed_by = RETURN if stopped else None
        forged = self._is_forged(content, turn_tokens, self._call_marker if how else None)
        defects: tuple[str, ...] = ("control_in_content",) if forged else ()
        thinking, answer = split_thinking(self.decode(content), opened=opened)
        messages: list[ParsedMessage] = []
        if thinking or (thinking is not None and answer is None):
            ended_by = END if answer is not None else closed_by
            if answer is None and stopped:
                defects += ("unclosed_thinking",)
            messages.append(_message("analysis", thinking, ended_by, defects))
        if answer is not None and how is not None and how.start in answer:
            calls = call_messages(answer, how, closed_by, tools)
            first = msgspec.structs.replace(calls[0], defects=defects + calls[0].defects)
            messages += [first, *calls[1:]]
        elif answer is not None:
            messages.append(_message("final", answer, closed_by, defects))
        swallowed = self._has_swallowed(content, [s.text for s in messages if not s.defects])
        further = ("control_in_content",) if swallowed and not defects else ()
        return make_parse(ParserTier.STRICT, messages, stop_reason, further)

    def answer(
        self, tokens: Sequence[int], tools: Sequence[Tool] = (), *, opened: bool
    ) -> str | None:
        """Return the text behind the reasoning so far, or `None` inside reasoning or a call.

        `opened` is whether the generation prompt leaves `<think>` open.
        """
        answer = split_thinking(self.decode(tokens), opened=opened)[1]
        how = self._notation(tools)
        return None if answer is not None and how is not None and how.start in answer else answer

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
        known = [token for token in tokens if 0 <= token < len(self._tokenizer)]
        return str(
            self._tokenizer.decode(
                known, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def _notation(self, tools: Sequence[Tool]) -> Notation | None:
        """Return how calls of these tools are written, `None` if none can be told from text."""
        return self._calls if self._calls is not None and self._calls.can_read(tools) else None

    def _is_forged(
        self,
        content: Sequence[int],
        turn_tokens: Collection[int],
        call_marker: Sequence[int] | None,
    ) -> bool:
        """Whether a completion holds control tokens: within calls, those that a turn is made of.

        Some families write calls with control tokens of their own, such as `[TOOL_CALLS]`.
        """
        begin = _find(content, call_marker) if call_marker else None
        if begin is None:
            return not self.special.isdisjoint(content)
        return not (
            self.special.isdisjoint(content[:begin])
            and self._stop_tokens.union(turn_tokens).isdisjoint(content[begin:])
        )

    def _has_swallowed(self, content: Sequence[int], texts: Sequence[str]) -> bool:
        """Whether a control token was read as text: texts spell one more often than text ids do."""
        written = self.decode([token for token in content if token not in self.special])
        names = (self.decode([token]) for token in self.special.intersection(content))
        return any(sum(text.count(name) for text in texts) > written.count(name) for name in names)


def _message(
    channel: str, text: str, closed_by: int | None, defects: tuple[str, ...] = ()
) -> ParsedMessage:
    return ParsedMessage("assistant", channel, None, None, text, closed_by, defects)


def _find(tokens: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Return where `wanted` stands first in `tokens`, `None` if it does not."""
    count = len(wanted)
    places = range(len(tokens) - count + 1)
    return next((at for at in places if tuple(tokens[at : at + count]) == tuple(wanted)), None)
