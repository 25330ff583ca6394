"""Loops in a completion: does the model write the same for ever?

A pure watcher of token ids, fed every one of them. It judges once in `CHECK_EVERY` tokens.

Much that is right repeats itself: a matrix of zeros, an empty form, a refrain, a list of records.
Such an answer ends, and a loop does not. So a loop is called one late: an answer that is lost costs
more than a few hundred tokens.

Exact cycles (`cycles.py`) of up to 300 tokens are loops after 4 repetitions and 512 tokens; one
token again and again is after 384. A cycle that will be long enough before the next judgement is
judged again right then, so that what is a loop does not depend on where the judgements fall.

Near repetition (`novelty.py`) is a loop after 1,850 tokens that brought hardly anything new, the
first time round counted. Rows of a few signs and records whose fields change are none, however
long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .cycles import LONGEST_PERIOD, closing_cycle, has_period, period_of, periodic_length
from .near_repetition import NEAR_LOOP, NearRepetition

CHECK_EVERY = 80  # tokens
REPETITIONS = 4
SHORTEST_LOOP = 512  # tokens
SHORTEST_RUN = 384  # of one token
SHORTEST_ENDING = 64  # of a completion that was cut off, and so had no end of its own
STRAY = 8  # tokens behind such an ending that are no longer in the cycle, fewer than

_HELD = REPETITIONS * LONGEST_PERIOD + CHECK_EVERY


class LoopMode(StrEnum):
    """How closely to watch: not at all, for exact cycles, for near repetition as well."""

    OFF = "off"
    CHEAP = "cheap"
    FULL = "full"


class LoopKind(StrEnum):
    """What repeats: the same tokens exactly, nearly so, or no more than two tokens in any order."""

    CYCLE = "cycle"
    NEAR = "near"
    LOW_VARIETY = "low_variety"


@dataclass(frozen=True, slots=True)
class Loop:
    """The end of a completion is repetition; counts are of tokens.

    `start` is the index of the first token of the loop among those pushed, `length` how many
    tokens from there to the end. `period` is how many of them come round; of a near repetition,
    whose period may drift, the usual one at the end; 1 where the variety is low. `start` is exact
    for a cycle, otherwise an estimate, good to a hundred tokens.
    """

    kind: LoopKind
    period: int
    start: int
    length: int

    @property
    def repeats(self) -> int:
        """How many whole periods the loop has."""
        return self.length // self.period

    @property
    def keep(self) -> int:
        """How many first tokens to keep, so that what repeats stands there once."""
        return self.start + self.period


class LoopDetector:
    """Watches one completion for loops; O(1) a token, in memory that does not grow.

    A cycle of period `p`, 1 to 300, is found at its token `max(4 * p, 512)`, or 384 where `p` is
    1. A near repetition is found within 2,000 tokens.
    """

    __slots__ = ("_due", "_fresh", "_near", "_off", "_seen", "_tail")

    def __init__(self, mode: LoopMode) -> None:
        """Start with nothing seen."""
        self._off = mode is LoopMode.OFF
        self._near = NearRepetition() if mode is LoopMode.FULL else None
        self._due = CHECK_EVERY  # tokens from one judgement to the next
        self._fresh: list[int] = []  # seen since the last judgement
        self._tail = ""  # what was seen before that, a character a token
        self._seen = 0

    def push(self, token: int) -> Loop | None:
        """Take the next token (0 to 1,114,111); return the loop it ends in, `None` for none.

        `None` as well between two judgements, and always in mode `off`.
        """
        fresh = self._fresh
        fresh.append(token)
        if len(fresh) < self._due:
            return None
        return self.judge()

    def judge(self) -> Loop | None:
        """Return the loop that the tokens end in up to here, `None` for none: judged right now."""
        fresh = tuple(self._fresh)
        self._fresh.clear()
        if self._off:
            return None
        # one format call costs half of a join of `chr`s
        self._tail = (self._tail + "%c" * len(fresh) % fresh)[-_HELD:]
        self._seen += len(fresh)
        self._due = CHECK_EVERY
        period = period_of(self._tail)
        near = self._nearly(fresh, period > 0)
        return self._cycle(period) or near

    def _cycle(self, period: int) -> Loop | None:
        """Return the exact cycle that the tail ends in, `None` for none or one yet too short."""
        tail, enough = self._tail, _enough(period)
        if not period:
            return None
        if has_period(tail, period, enough):
            return self._loop(LoopKind.CYCLE, period, periodic_length(tail, period, enough))
        if has_period(tail, period, enough - CHECK_EVERY):
            length = periodic_length(tail, period, enough - CHECK_EVERY, enough)
            self._due = min(self._due, enough - length)
        return None

    def _nearly(self, fresh: tuple[int, ...], in_cycle: bool) -> Loop | None:
        """Return the near repetition that the tail ends in, `None` for none or nobody who asks."""
        near = self._near
        if near is None:
            return None
        near.take(fresh, self._tail, in_cycle)
        self._due = min(self._due, near.due)
        if near.period:
            return self._loop(LoopKind.NEAR, near.period, near.length)
        if near.plain >= NEAR_LOOP:
            return self._loop(LoopKind.LOW_VARIETY, 1, near.plain)
        return None

    def _loop(self, kind: LoopKind, period: int, length: int) -> Loop:
        """Return the loop of the last `length` tokens."""
        length = min(length, self._seen)
        return Loop(kind, period, self._seen - length, length)


def ending_loop(tokens: Sequence[int]) -> Loop | None:
    """Return the loop that a completion that was cut off ends in, `None` if it ends in none.

    It had no end of its own: 64 tokens of an exact cycle are enough here, a few more behind it or
    not. Where there is none, what a detector that is shown all `tokens` says at their end.
    """
    tail = "%c" * len(tokens) % tuple(tokens)
    for behind in range(STRAY):
        end = len(tail) - behind
        period, length = closing_cycle(tail[:end], SHORTEST_ENDING, REPETITIONS)
        if period:
            return Loop(LoopKind.CYCLE, period, end - length, length + behind)
    return detected_at_end(tokens)


def detected_at_end(tokens: Sequence[int]) -> Loop | None:
    """Return the loop that the closest watch finds at the end of `tokens`, as it was first found.

    `None` if it finds none, or one that the completion came out of.
    """
    detector = LoopDetector(LoopMode.FULL)
    found = [loop for token in tokens if (loop := detector.push(token)) is not None]
    first = detector.judge()
    if first is None:
        return None
    for loop in reversed(found):
        if loop.start + loop.length < first.start:
            break
        first = loop
    return first


def _enough(period: int) -> int:
    """Return how many tokens of a cycle are a loop."""
    return SHORTEST_RUN if period == 1 else max(REPETITIONS * period, SHORTEST_LOOP)
