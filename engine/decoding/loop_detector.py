"""The loop detector: finds out that a completion repeats itself without end.

It takes every token id of a completion and judges after every `CHECK_EVERY` of them.

Good answers repeat themselves as well: a matrix of zeros, an empty form, a refrain, a list of
records. They end, and a loop does not. So detection comes late: a lost answer costs more than a few
hundred tokens.

An exact cycle (`cycles.py`) of up to 300 tokens is a loop after 4 repetitions and 512 tokens; a
single token after 384. A cycle that will be long enough before the next judgement is judged as soon
as it is, so that the result does not depend on where the judgements fall.

Near repetition (`novelty.py`) is a loop after 1,850 tokens with hardly anything new, the first
repetition included. Rows of a few signs, and records whose fields change, are never loops.
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
SHORTEST_ENDING = 64  # tokens, at the end of a completion that was cut off
STRAY = 8  # such a cycle has fewer tokens than this behind it

_HELD = REPETITIONS * LONGEST_PERIOD + CHECK_EVERY


class LoopMode(StrEnum):
    """What to detect: nothing, exact cycles, or near repetition as well."""

    OFF = "off"
    CHEAP = "cheap"
    FULL = "full"


class LoopKind(StrEnum):
    """What repeats: exactly the same tokens, nearly the same, or two tokens in any order."""

    CYCLE = "cycle"
    NEAR = "near"
    LOW_VARIETY = "low_variety"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop at the end of a completion; counts are of tokens.

    `start` is the index of its first token among those pushed, `length` the number of tokens from
    there to the end. `period` is how many of them repeat; for near repetition, whose period may
    drift, the usual one at the end; 1 for low variety. `start` is exact for a cycle, otherwise an
    estimate, good to a hundred tokens.
    """

    kind: LoopKind
    period: int
    start: int
    length: int

    @property
    def repeats(self) -> int:
        """The number of whole periods in the loop."""
        return self.length // self.period

    @property
    def keep(self) -> int:
        """The number of tokens to keep so that what repeats is there once."""
        return self.start + self.period


class LoopDetector:
    """Detects loops in one completion; O(1) time a token, constant memory.

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
        """Judge now: return the loop that the tokens so far end in, `None` for none."""
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
        """Return the exact cycle that the tail ends in, `None` for none or a short one."""
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
        """Return the near repetition that the tail ends in, `None` for none or if it is off."""
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
    """Return the loop at the end of a completion that was cut off, `None` if there is none.

    As the completion did not end by itself, 64 tokens of an exact cycle are enough here, also with
    a few tokens behind it. Otherwise it is what a detector says at the end of all `tokens`.
    """
    tail = "%c" * len(tokens) % tuple(tokens)
    for behind in range(STRAY):
        end = len(tail) - behind
        period, length = closing_cycle(tail[:end], SHORTEST_ENDING, REPETITIONS)
        if period:
            return Loop(LoopKind.CYCLE, period, end - length, length + behind)
    return detected_at_end(tokens)


def detected_at_end(tokens: Sequence[int]) -> Loop | None:
    """Return the loop that mode `full` detects at the end of `tokens`, as it was first found.

    `None` if there is none, or only one that the completion left again.
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
    """Return how many tokens make a cycle of this period a loop."""
    return SHORTEST_RUN if period == 1 else max(REPETITIONS * period, SHORTEST_LOOP)
