"""Fit to context: which oldest turns a prompt goes without, so that its answer has room.

A turn is a user message with everything that answers it; what stands before the first user message
is a turn of its own. System and developer messages belong to no turn and always stay, and so does
the last turn. What goes is a function of the conversation alone: it is replayed from its first
message, and whenever a prompt would have been too long, turns go down to a low-water mark. So the
prompts of several following turns begin alike and their prefix can be reused, whatever ran before.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import PromptTooLong
from mh_batch.jobs.generation import Continuation, Prompt

MARGIN = 16
"""Tokens of the context that stay free.

Decoding runs a token ahead of what it returns.
"""

LOW_WATER = 0.75
"""Which part of their room the earlier turns take after some of them went."""

# beyond this a conversation is not even rendered to see whether it fits; prose has 4 to 5
_MOST_CHARACTERS_PER_TOKEN = 8
# a turn takes two, so conversations of 2,000 turns are measured once and not at every turn
_KEPT_COUNTS = 4096
_PROBE = Message("user", "x")

Render = Callable[[Prompt], list[int]]
ResponsePrefill = Callable[[int | None], tuple[int, ...]]
"""Returns the beginning of the answer, cut to that many tokens; `None` for all of it."""

# a response prefill takes at most a quarter of the context
_PREFILL_SHARE = 4


class Turn(NamedTuple):
    """What a turn adds to a prompt, in tokens.

    `asked` is its part at each generation it took, in order: one, and one more after each tool
    result. `settled` is its part in the prompts of later turns.
    """

    asked: tuple[int, ...]
    settled: int


class Budget(NamedTuple):
    """How many tokens the whole prompt and the earlier turns in it may have, `None` for any."""

    prompt: int | None
    history: int | None

    @property
    def least(self) -> int | None:
        """The smaller of both: a prompt of this length loses nothing."""
        return min((n for n in self if n is not None), default=None)

    def room(self, others: int) -> int | None:
        """Return what is left for the earlier turns beside `others`, `None` for any number."""
        return Budget(None if self.prompt is None else self.prompt - others, self.history).least


class Fitted(NamedTuple):
    """A prompt's token ids, how many its answer may have, and how many turns went.

    The last of `tokens` are the `response_prefill`, empty for an answer from scratch. Those before
    are `prompt` as it was rendered: without the turns that went.
    """

    tokens: list[int]
    max_tokens: int
    dropped_turns: int
    response_prefill: tuple[int, ...]
    prompt: Prompt


def prompt_budget(limit: int, max_tokens: int) -> int:
    """Return how many tokens of a context of `limit` a prompt may have.

    An answer may claim half of the context at the most: `max_tokens` as large as the context would
    leave every conversation without a memory, while answers are mostly far shorter than they may
    be. What such an answer has less is taken off `max_tokens`.
    """
    return limit - MARGIN - min(max_tokens, limit // 2)


def plan(turns: Sequence[Turn], fixed: int, budget: Budget) -> int:
    """Return how many of the oldest turns go; never the last one.

    `fixed` is what every prompt of the conversation has besides its turns. The answer for a
    conversation never exceeds that for the same conversation with more turns.
    """
    dropped = history = 0
    for position, turn in enumerate(turns):
        for asked in turn.asked:
            room = budget.room(fixed + asked)
            if room is None or history <= room:
                continue
            while dropped < position and history > room * LOW_WATER:
                history -= turns[dropped].settled
                dropped += 1
        history += turn.settled
    return dropped


def drop_further(turns: Sequence[Turn], dropped: int, excess: int) -> int:
    """Return how many turns go once the next oldest ones have made up for `excess` tokens."""
    while dropped < len(turns) - 1 and excess > 0:
        excess -= turns[dropped].settled
        dropped += 1
    return dropped


def split(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Return the turns of a conversation, oldest first."""
    turns: dict[int, list[Message]] = {}
    for message, turn in zip(messages, _turn_numbers(messages), strict=True):
        if turn is not None:
            turns.setdefault(turn, []).append(message)
    return [tuple(turn) for turn in turns.values()]


def without_oldest(messages: Sequence[Message], dropped: int) -> tuple[Message, ...]:
    """Return the messages less those of the `dropped` oldest turns."""
    numbered = zip(messages, _turn_numbers(messages), strict=True)
    return tuple(message for message, turn in numbered if turn is None or turn >= dropped)


def _without_turns(prompt: Prompt, dropped: int) -> Prompt:
    """Return the prompt less its `dropped` oldest turns."""
    if not dropped:
        return prompt
    kept = without_oldest(prompt.messages, dropped)
    return msgspec.structs.replace(prompt, messages=kept)


def _turn_numbers(messages: Sequence[Message]) -> Iterator[int | None]:
    """Yield the number of each message's turn from 0 on, `None` for instructions."""
    turn = -1
    for message in messages:
        if message.role in ("system", "developer"):
            yield None
            continue
        if message.role == "user" or turn < 0:
            turn += 1
        yield turn


def no_prefill(_most: int | None) -> tuple[int, ...]:
    """Begin an answer with nothing."""
    return ()


def room_behind(fitted: Fitted, limit: int | None) -> int | None:
    """Return how many tokens a context of `limit` holds behind the prompt and all of its answer.

    `None`, also for the limit, is any number. Below 0 it does not hold what there is.
    """
    return None if limit is None else limit - MARGIN - len(fitted.tokens) - fitted.max_tokens


def go_on(fitted: Fitted, cut: Continuation, limit: int | None) -> Fitted:
    """Return the prompt of an answer that was cut, with all of the answer behind it.

    No turn goes for it and no token of the answer: `fitted` comes back as it is, to begin from
    scratch, where the context does not hold both and as many tokens more as are asked for.
    """
    tokens = [*fitted.tokens, *cut.tokens]
    longer = fitted._replace(tokens=tokens, max_tokens=cut.max_tokens, response_prefill=cut.tokens)
    room = room_behind(longer, limit)
    return longer if room is None or room >= 0 else fitted


class Fitter:
    """Fits the prompts of one adapter; remembers lengths it has measured, and nothing else."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._gauge: TurnCosts | None = None

    def fit(
        self,
        prompt: Prompt,
        max_tokens: int,
        limit: int | None,
        history_tokens: int | None,
        prefill: ResponsePrefill = no_prefill,
    ) -> Fitted:
        """Render `prompt`, less its oldest turns where prompt and `max_tokens` exceed `limit`.

        Turns go as well where the earlier ones together exceed `history_tokens`; `None` is no
        limit. Once no earlier turn is left, `max_tokens` is lowered to what the context holds;
        raises `PromptTooLong` if that is not even one token. A response prefill has at most a
        quarter of the context, and half of what the prompt leaves: turns go for it first, then
        `max_tokens`. Guidance is left out where it would take more of the context than it leaves
        to the answer.
        """
        budget = Budget(None if limit is None else prompt_budget(limit, max_tokens), history_tokens)
        begun = prefill(None if limit is None else limit // _PREFILL_SHARE)
        tokens, dropped = self._shorten(prompt, budget, len(begun))
        kept = _without_turns(prompt, dropped)
        if limit is None:
            return Fitted([*tokens, *begun], max_tokens, dropped, begun, kept)
        room = limit - MARGIN - len(tokens)
        if len(begun) > room // 2:
            begun = prefill(max(room // 2, 0))
        # so little room that nothing could follow: rather an answer from scratch than an error
        begun = begun if len(begun) < room else ()
        if prompt.guidance is not None and room < max_tokens:
            guidance = len(tokens) - len(
                self._render(msgspec.structs.replace(prompt, guidance=None))
            )
            if room < guidance:
                unguided = msgspec.structs.replace(prompt, guidance=None)
                return self.fit(unguided, max_tokens, limit, history_tokens, prefill)
        if room < 1:
            raise PromptTooLong(
                f"the system messages and the last turn alone have {len(tokens)} tokens; with a "
                f"margin of {MARGIN} and an answer of at least one they exceed the context of "
                f"{limit}"
            )
        return Fitted([*tokens, *begun], min(max_tokens, room - len(begun)), dropped, begun, kept)

    def _shorten(self, prompt: Prompt, budget: Budget, prefilled: int) -> tuple[list[int], int]:
        """Return the ids of as much of the prompt as fits, and how many turns went.

        A response prefill of `prefilled` tokens will follow it.
        """
        turns = split(prompt.messages)
        enough = budget.least
        if enough is None or len(turns) < 2:
            return self._render(prompt), 0
        if _characters(prompt.messages) <= enough * _MOST_CHARACTERS_PER_TOKEN:
            tokens = self._render(prompt)
            if len(tokens) + prefilled <= enough:
                return tokens, 0
        gauge = self._gauge_for(prompt)
        costs = [*map(gauge.settled, turns[:-1]), gauge.unanswered(turns[-1])]
        dropped = plan(costs, gauge.fixed(without_oldest(prompt.messages, len(turns))), budget)
        while True:
            tokens = self._render(_without_turns(prompt, dropped))
            # guidance and a prefill are not in the plan, so that a retry begins like the attempt
            # before it; and turns of some templates are longer together than one by one
            excess = 0 if budget.prompt is None else len(tokens) + prefilled - budget.prompt
            further = drop_further(costs, dropped, excess)
            if further == dropped:
                return tokens, dropped
            dropped = further

    def _gauge_for(self, prompt: Prompt) -> "TurnCosts":
        """Return what measures the prompt's pieces, the last one if it serves again."""
        setting = msgspec.structs.replace(prompt, messages=(), guidance=None)
        gauge = self._gauge
        if gauge is None or gauge.setting != setting:
            # two threads may be here, so what is returned is not looked up again
            gauge = self._gauge = TurnCosts(self._render, setting)
        return gauge


class TurnCosts:
    """Measures pieces of conversations that share `setting`: tools, date and effort.

    A piece counts by how much longer a short prompt gets with it, because no adapter renders a
    piece alone. Each is rendered once, so a growing conversation costs its new turns only.
    """

    def __init__(self, render: Render, setting: Prompt) -> None:
        self.setting = setting
        self._render = render
        self._count = lru_cache(maxsize=_KEPT_COUNTS)(self._render_and_count)

    def fixed(self, instructions: tuple[Message, ...]) -> int:
        """Return the length of a prompt of instructions, tools and a question of no weight."""
        return self._count((*instructions, _PROBE), tools=True)

    def settled(self, turn: tuple[Message, ...]) -> Turn:
        """Measure a turn that others follow."""
        return Turn(tuple(self._asked(turn)), self._added((*turn, _PROBE)))

    def unanswered(self, turn: tuple[Message, ...]) -> Turn:
        """Measure the last turn, which is to be answered as it stands."""
        asked = (*self._asked(turn), self._added(turn))
        return Turn(asked, asked[-1])

    def _asked(self, turn: tuple[Message, ...]) -> Iterator[int]:
        """Yield what stood of the turn when each of its assistant messages was generated."""
        for index, message in enumerate(turn):
            if index and message.role == "assistant":
                yield self._added(turn[:index])

    def _added(self, messages: tuple[Message, ...]) -> int:
        """Return how many tokens `messages` have more than the question of no weight."""
        # some tokenisers have a template of its own for conversations with tools
        tools = any(message.role == "tool" or message.tool_calls for message in messages)
        return self._count(messages, tools=tools) - self._count((_PROBE,), tools=tools)

    def _render_and_count(self, messages: tuple[Message, ...], *, tools: bool) -> int:
        shown = self.setting.tools if tools else ()
        return len(
            self._render(msgspec.structs.replace(self.setting, messages=messages, tools=shown))
        )


def _characters(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)
