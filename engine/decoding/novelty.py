"""Whether tokens bring anything new, judged by what followed the same two tokens before.

Each token is one of three things. New: the two tokens before it have not occurred together
recently. A surprise: they have, but another token followed. Expected: the same token followed last
time. A loop with a counter in its sentence, or with one word in twenty changed, has a surprise at
each change and two or three new tokens behind it. In prose nearly all tokens are new. Records of
the same shape have a surprise at every value, and many new tokens in a row where a value is new.
"""

from collections.abc import Sequence
from itertools import pairwise, repeat
from operator import eq, is_

ENOUGH = 512  # tokens to remember; the older are asked until the younger are so many
REMEMBERED = 2048  # tokens, until the younger become the older

# the score of a token, and what it costs; with surprises at 17 tokens in 100 the sum stays level
_TOKEN = 10
_SURPRISE = 56
_NEW = 1
_BURST = b"\1" * 6  # new tokens in a row
_BURST_COST = 600
_MOST = 1000  # so that a few bursts undo any number of tokens that say nothing


class Novelty:
    """Counts for how many tokens a sequence has had hardly anything new; O(1) a token.

    The score is a running sum (CUSUM, Page 1954): it grows as long as little is new, and when it
    falls to 0 the count starts again.
    """

    __slots__ = ("_before", "_held", "_older", "_score", "_younger", "run")

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.run = 0
        self._score = 0
        self._before = (-1, -1)  # the last two tokens
        # two tokens and what followed them last; the older ones are dropped all at once
        self._younger: dict[tuple[int, int], int] = {}
        self._older: dict[tuple[int, int], int] = {}
        self._held = 0  # tokens among the younger

    def take(self, tokens: Sequence[int]) -> None:
        """Take the next tokens; then `run` is how many of the last brought hardly anything new.

        While the score is at its minimum or maximum, half of them are judged and count twice. At
        the maximum the others are not remembered either: most of them are known.
        """
        if not tokens:
            return
        count = len(tokens)
        judged = count if 0 < self._score < _MOST else (count + 1) // 2
        learned = tokens[:judged] if self._score == _MOST else tokens
        pairs = list(pairwise((*self._before, *learned[:-1])))
        cost = _cost(tokens, self._known(pairs[:judged]))
        self._younger.update(zip(pairs, learned, strict=True))
        self._forget(len(learned))
        self._go_on(tokens, cost * count // judged)

    def _known(self, pairs: Sequence[tuple[int, int]]) -> list[int | None]:
        """Return what followed each pair last time, `None` for a pair that is not remembered."""
        if self._held >= ENOUGH:
            return list(map(self._younger.get, pairs))
        return list(map(self._younger.get, pairs, map(self._older.get, pairs)))

    def repeat(self, tokens: Sequence[int]) -> None:
        """Take the next tokens as `take` does; they are known to continue an exact cycle."""
        self._go_on(tokens, 0)

    def _go_on(self, tokens: Sequence[int], cost: int) -> None:
        """Add the score of the tokens, less their cost."""
        before, last = (*self._before, *tokens[-2:])[-2:]
        self._before = (before, last)
        self._score = min(self._score + _TOKEN * len(tokens) - cost, _MOST)
        if self._score <= 0:
            self._score = self.run = 0
        else:
            self.run += len(tokens)

    def _forget(self, count: int) -> None:
        """Count `count` more tokens among the younger; drop the older once there are enough."""
        self._held += count
        if self._held >= REMEMBERED:
            self._older, self._younger, self._held = self._younger, {}, 0


def _cost(tokens: Sequence[int], known: Sequence[int | None]) -> int:
    """Return the cost of the first `tokens`; `known` is what followed last time, or `None`."""
    unknown = bytes(map(is_, known, repeat(None)))
    new = unknown.count(1)
    expected: int = sum(map(eq, known, tokens))
    surprises = len(known) - new - expected
    return _SURPRISE * surprises + _NEW * new + _BURST_COST * unknown.count(_BURST)
