"""How many of the oldest turns are dropped, as a function of numbers alone.

The conversation is replayed from its first message. Whenever a prompt would have been too long,
the oldest turns are dropped until the others take no more than a low-water mark. So the prompts of
several successive turns begin alike and their prefix can be reused, whatever ran before.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .turn_costs import TurnCost

MARGIN = 16
"""Tokens of the context that stay free.

Decoding runs a token ahead of what it returns.
"""

LOW_WATER = 0.75
"""Which part of their room the earlier turns take after some of them were dropped."""


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


def prompt_budget(limit: int, max_tokens: int) -> int:
    """Return how many tokens of a context of `limit` a prompt may have.

    At most half of the context is set aside for the answer. With a `max_tokens` as large as the
    context, no earlier turn would fit, while most answers are far shorter than they may be. Where
    the prompt leaves less than `max_tokens`, `max_tokens` is lowered.
    """
    return limit - MARGIN - min(max_tokens, limit // 2)


def turns_to_drop(turns: Sequence[TurnCost], fixed: int, budget: Budget) -> int:
    """Return how many of the oldest turns are dropped; never the last one.

    `fixed` is what every prompt of the conversation has besides its turns. The answer for a
    conversation never exceeds that for the same conversation with more turns.
    """
    dropped = history = 0
    for position, turn in enumerate(turns):
        for cost in turn.at_generations:
            room = budget.room(fixed + cost)
            if room is None or history <= room:
                continue
            while dropped < position and history > room * LOW_WATER:
                history -= turns[dropped].completed
                dropped += 1
        history += turn.completed
    return dropped


def drop_further(turns: Sequence[TurnCost], dropped: int, excess: int) -> int:
    """Return how many turns are dropped once the next oldest have made up for `excess` tokens."""
    while dropped < len(turns) - 1 and excess > 0:
        excess -= turns[dropped].completed
        dropped += 1
    return dropped
