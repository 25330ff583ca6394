"""Where the messages of a rendered chat template end, from token ids alone.

A place must be the same in every prompt with that message, whether it is the last one, has guidance
as its last paragraph, or has an answer behind it.
"""

from collections.abc import Collection, Sequence
from itertools import takewhile

MERGE_MARGIN = 4
"""How many tokens before its real end a message is taken to end.

A tokeniser may merge the end of a text with what follows: in some, a full stop and a line break are
one token.
"""

# a shorter closing without a control token could be found inside texts
_FEWEST_TEXT_TOKENS = 3


class MessageEnds:
    """Finds the ends of messages by control tokens and by what closes a question."""

    def __init__(self, control: Collection[int], closing: Sequence[int]) -> None:
        """Take the ids that are structure, and what stands behind a question (see `closing`)."""
        self._control = frozenset(control)
        marked = len(closing) >= _FEWEST_TEXT_TOKENS or not self._control.isdisjoint(closing)
        self._closing = tuple(closing) if marked else ()

    def find(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Return the places at which messages end, ascending, as numbers of tokens before them.

        The closing of a question counts as one end, whatever control tokens it has: nothing behind
        its beginning is shared with a prompt that has guidance there.
        """
        marks = self._control.union(self._closing[:1])
        found = []
        behind = 0
        for at, token in enumerate(tokens):
            if token not in marks or at < behind:
                continue
            closes = tuple(tokens[at : at + len(self._closing)]) == self._closing
            if closes or token in self._control:
                found.append(at - MERGE_MARGIN)
                behind = at + len(self._closing) if closes else at
        return tuple(place for place in found if place > 0)


def closing(asked: Sequence[int], other: Sequence[int], later: Sequence[int]) -> tuple[int, ...]:
    """Return the ids that a template writes behind a question, answered or not.

    `asked` and `other` are prompts of two different questions, `later` is that of the first with an
    answer and another question behind it.
    """
    tail = common_beginning(asked[::-1], other[::-1])
    return tuple(asked[len(asked) - tail : common_beginning(asked, later)])


def common_beginning(some: Sequence[int], others: Sequence[int]) -> int:
    """Return the length of the common beginning of two prompts."""
    pairs = zip(some, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
