"""The turns of a conversation.

A turn is a user message with all that answers it; messages before the first user message make a
turn as well. System and developer messages belong to no turn.
"""

from collections.abc import Iterator, Sequence

from mh_batch.jobs.conversation import Message


def split_turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Return the turns of a conversation, oldest first."""
    turns: dict[int, list[Message]] = {}
    for message, turn in zip(messages, _turn_numbers(messages), strict=True):
        if turn is not None:
            turns.setdefault(turn, []).append(message)
    return [tuple(turn) for turn in turns.values()]


def without_oldest(messages: Sequence[Message], dropped: int) -> tuple[Message, ...]:
    """Return the messages without those of the `dropped` oldest turns."""
    numbered = zip(messages, _turn_numbers(messages), strict=True)
    return tuple(message for message, turn in numbered if turn is None or turn >= dropped)


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
