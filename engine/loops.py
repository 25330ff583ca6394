"""Loops in a completion: is what the model writes the same again and again?

A pure watcher of token ids, fed every one of them. It judges once in `check_every` tokens, on the
last few hundred ids held as a string of one character a token: a string search finds in one call
what comparisons in Python take 64 a token for.

Exact cycles. A tail of `n` tokens with period `p` ends in `n - p` tokens that stand `p` before as
well. Where such an ending is at least `p` long, its nearest earlier occurrence is exactly the
shortest period (Fine and Wilf), whatever repeats inside the cycle. So one search for an ending of
41 tokens settles the periods up to 41, and one for an ending of 119 those up to 64 (for a
judgement every 8 tokens). A cycle that will be long enough before the next judgement is judged
again right then: what is a loop does not depend on where the judgements fall.

Near repetition. A place is an echo if the last `d` tokens have been there before, `d` being how
far back the latest few stand. In a loop with a word swapped now and then most places are echoes.
Lines that differ in a counter have none: the last `d` tokens, one line, hold the counter. Nor has
a chorus: between it and its repetition stands a verse.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LONGEST_PERIOD = 64
REPETITIONS = 4
SHORTEST_LOOP = 64  # tokens; fewer may be a rule of dashes, a row of zeros, a laugh
CHECK_EVERY = 8  # tokens from one judgement to the next, where nothing else is asked for
LONGEST_CHECK = 16  # tokens; beyond it too little of a cycle would stand at the last judgement
GLANCE = 8  # tokens; most text is dismissed because its last few do not stand shortly before

ECHO_HISTORY = 1024  # tokens in which an echo finds what it echoes
ECHO_WINDOW = 512  # tokens, half of which are echoes in a near repetition
ECHO_NEEDLE = 16  # tokens; fewer stand twice by chance in tables, bits and genes
RUN_PERIOD = 6  # tokens; what comes round so soon may be a row of zeros in a numbered line,
RUN_NEEDLE = 40  # so that much of it has to stand before
LOW_VARIETY = 2  # different tokens in the whole history; three are the bits "0 1 1 0" in o200k


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
    whose period may drift, the last one seen; 1 where the variety is low. `start` is exact for a
    cycle, otherwise an estimate, good to a few periods.
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

    `check_every`, 1 to 16, is how many tokens pass at most between two judgements. A cycle of
    period `p`, 1 to 64, is found at its token `max(4 * p, 64)`, whatever `check_every`. A near
    repetition takes 500 to 1,000 tokens.
    """

    __slots__ = (
        "_due",
        "_echoes",
        "_every",
        "_fresh",
        "_full",
        "_held",
        "_judgements",
        "_needles",
        "_off",
        "_seen",
        "_tail",
        "_window",
    )

    def __init__(self, mode: LoopMode, check_every: int = CHECK_EVERY) -> None:
        """Start with nothing seen. Raises `ValueError` if `check_every` is not 1 to 16."""
        if not 1 <= check_every <= LONGEST_CHECK:
            raise ValueError(f"check_every is {check_every}: it must be 1 to {LONGEST_CHECK}")
        self._off = mode is LoopMode.OFF
        self._full = mode is LoopMode.FULL
        self._every = check_every
        self._due = check_every  # tokens from one judgement to the next
        self._needles = _needles(check_every)
        self._held = ECHO_HISTORY if self._full else REPETITIONS * LONGEST_PERIOD
        self._window = ECHO_WINDOW // check_every  # judgements
        self._fresh: list[int] = []  # seen since the last judgement
        self._tail = ""  # what was seen before that, a character a token
        self._seen = 0
        self._judgements = 0
        self._echoes = 0  # a bit a judgement, the latest lowest

    def push(self, token: int) -> Loop | None:
        """Take the next token (0 to 1,114,111); return the loop it ends in, `None` for none.

        `None` as well between two judgements, and always in mode `off`.
        """
        if self._off:
            return None
        fresh = self._fresh
        fresh.append(token)
        if len(fresh) < self._due:
            return None
        return self._judge()

    def _judge(self) -> Loop | None:
        """Move the fresh tokens to the tail and judge it."""
        fresh = tuple(self._fresh)
        self._fresh.clear()
        # one format call costs half of a join of `chr`s
        self._tail = (self._tail + "%c" * len(fresh) % fresh)[-self._held :]
        self._seen += len(fresh)
        self._judgements += 1
        cycle = self._cycle()
        if cycle is not None or not self._full:
            return cycle
        return self._near_repetition() or self._low_variety()

    def _cycle(self) -> Loop | None:
        """Return the exact cycle that the tail ends in, `None` for none or one yet too short."""
        tail = self._tail
        self._due = self._every
        if not _distance(tail, GLANCE, LONGEST_PERIOD):
            return None
        for needle, longest in self._needles:
            period = _distance(tail, needle, longest)
            enough = _enough(period)
            if not period or not _has_period(tail, period, enough - self._every + 1):
                continue
            length = _periodic_length(tail, period, enough - self._every + 1)
            if length >= enough:
                return self._loop(LoopKind.CYCLE, period, length)
            self._due = min(self._due, enough - length)
        return None

    def _near_repetition(self) -> Loop | None:
        """Note whether the tail ends in an echo; return the loop if half of the window does."""
        window = self._window
        period = _echo(self._tail)
        self._echoes = (self._echoes << 1 | (period > 0)) & ((1 << window) - 1)
        if not period or 2 * self._echoes.bit_count() < window:
            return None
        # the first echo ended a repetition of a period, and that had followed its model
        length = (self._echoes.bit_length() - 1) * self._every + 2 * period
        return self._loop(LoopKind.NEAR, period, length)

    def _low_variety(self) -> Loop | None:
        """Return a loop if the whole history is two tokens in some order, else `None`."""
        tail = self._tail
        if self._judgements % self._window or len(tail) < ECHO_HISTORY:
            return None
        if len(set(tail)) > LOW_VARIETY:
            return None
        return self._loop(LoopKind.LOW_VARIETY, 1, len(tail))

    def _loop(self, kind: LoopKind, period: int, length: int) -> Loop:
        """Return the loop of the last `length` tokens."""
        length = min(length, self._seen)
        return Loop(kind, period, self._seen - length, length)


def ending_loop(tokens: Sequence[int]) -> Loop | None:
    """Return the loop that a completion ends in, `None` if it ends in none.

    Looked for as it is while tokens are drawn: exact cycles first, then near repetition. A loop
    that nobody stopped is told from its first repetitions on.
    """
    for mode in (LoopMode.CHEAP, LoopMode.FULL):
        loop = _last_loop(tokens, mode)
        if loop is not None:
            return loop
    return None


def _last_loop(tokens: Sequence[int], mode: LoopMode) -> Loop | None:
    """Return what `mode` finds at the end of `tokens`, as it was when first found."""
    push = LoopDetector(mode, CHECK_EVERY).push
    first: Loop | None = None
    end = 0
    for count, token in enumerate(tokens, 1):
        found = push(token)
        if found is None:
            continue
        if first is None or found.start > end:
            first = found
        end = count
    return first if len(tokens) - end < CHECK_EVERY else None


def _enough(period: int) -> int:
    """Return how many tokens of a cycle are a loop."""
    return max(REPETITIONS * period, SHORTEST_LOOP)


def _needles(check_every: int) -> tuple[tuple[int, int], ...]:
    """Return the endings to search for, each with the longest period that it settles.

    An ending settles the periods it is no shorter than, if it stands twice in a cycle of each that
    becomes a loop before the next judgement.
    """
    needles = []
    settled = 0
    while settled < LONGEST_PERIOD:
        rest = range(settled + 1, LONGEST_PERIOD + 1)
        needle = min(_enough(period) - check_every + 1 - period for period in rest)
        settled = min(needle, LONGEST_PERIOD)
        needles.append((needle, settled))
    return tuple(needles)


def _distance(tail: str, needle: int, longest: int) -> int:
    """Return how far before its end, at most `longest`, the last `needle` tokens stand, or 0."""
    begin = len(tail) - needle
    if begin < 1:
        return 0
    found = tail.rfind(tail[begin:], max(0, begin - longest), len(tail) - 1)
    return begin - found if found >= 0 else 0


def _has_period(tail: str, period: int, length: int) -> bool:
    """Whether `tail` has as many as `length` characters, and the last of them this period."""
    return length <= len(tail) and tail[-length:-period] == tail[period - length :]


def _periodic_length(tail: str, period: int, least: int) -> int:
    """Return how many last characters of `tail` have this period, known to be `least`."""
    longer = range(least + 1, len(tail) + 1)
    return least + bisect_left(longer, True, key=lambda n: not _has_period(tail, period, n))


def _echo(tail: str) -> int:
    """Return how far back the end of `tail` stands if all since then is repetition, else 0."""
    period = _distance(tail, ECHO_NEEDLE, ECHO_WINDOW)
    reach = period if period > RUN_PERIOD else RUN_NEEDLE
    if period and reach > ECHO_NEEDLE and not _distance(tail, reach, ECHO_HISTORY):
        return 0
    return period
