"""How many tokens each turn of a conversation adds to a prompt."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Prompt

Render = Callable[[Prompt], list[int]]

# a turn takes two, so conversations of 2,000 turns are measured once and not at every turn
_CACHED_COUNTS = 4096
_PROBE = Message("user", "x")


class TurnCost(NamedTuple):
    """How many tokens a turn adds to a prompt.

    `at_generations` is its part at each generation it took, in order: one, and one more after each
    tool result. `completed` is its part in the prompts of later turns.
    """

    at_generations: tuple[int, ...]
    completed: int


class TurnCosts:
    """Measures pieces of conversations that share `setting`: tools, date and effort.

    The cost of a piece is how much longer a short prompt gets with it, because no adapter renders a
    piece alone. Each is rendered once, so a growing conversation costs only its new turns.
    """

    def __init__(self, render: Render, setting: Prompt) -> None:
        self.setting = setting
        self._render = render
        self._count = lru_cache(maxsize=_CACHED_COUNTS)(self._render_and_count)

    def fixed(self, instructions: tuple[Message, ...]) -> int:
        """Return the length of a prompt of instructions, tools and the probe question."""
        return self._count((*instructions, _PROBE), tools=True)

    def completed(self, turn: tuple[Message, ...]) -> TurnCost:
        """Measure a turn that others follow."""
        return TurnCost(tuple(self._at_generations(turn)), self._added((*turn, _PROBE)))

    def unanswered(self, turn: tuple[Message, ...]) -> TurnCost:
        """Measure the last turn, which is to be answered as it stands."""
        parts = (*self._at_generations(turn), self._added(turn))
        return TurnCost(parts, parts[-1])

    def _at_generations(self, turn: tuple[Message, ...]) -> Iterator[int]:
        """Yield how long the turn was when each of its assistant messages was generated."""
        for index, message in enumerate(turn):
            if index and message.role == "assistant":
                yield self._added(turn[:index])

    def _added(self, messages: tuple[Message, ...]) -> int:
        """Return how many tokens `messages` have more than the probe question."""
        # some tokenisers have a separate template for conversations with tools
        tools = any(message.role == "tool" or message.tool_calls for message in messages)
        return self._count(messages, tools=tools) - self._count((_PROBE,), tools=tools)

    def _render_and_count(self, messages: tuple[Message, ...], *, tools: bool) -> int:
        shown = self.setting.tools if tools else ()
        return len(
            self._render(msgspec.structs.replace(self.setting, messages=messages, tools=shown))
        )
