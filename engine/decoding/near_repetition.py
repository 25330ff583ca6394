"""Near repetition: the same text again and again, with small differences each time."""

from collections import Counter

from .cycles import distance
from .novelty import Novelty

NEAR_LOOP = 1850  # tokens
LONGEST_PERIOD = 512  # tokens, of a near repetition

_NEEDLE = 4  # tokens; fewer stand twice in a sentence, more hold a counter
_PROBES = range(0, 48, 3)  # tokens from the end
_SIGNS = 4
_SIGNS_SHARE = 0.8
_FIELDS = 3
_EACH_ROUND = 1.5
_OFTEN = 0.25  # of the times round
_LEAST_OFTEN = 6
_CONTEXT = 4  # tokens


class NearRepetition:
    """Detects near repetition; takes the tokens a few at a time.

    After `take`, `period` is that of the near repetition that the tokens end in, or 0; `length` is
    how many tokens it has. `plain` is how many of the last tokens are only two different ones in
    some order (the bits "0 1 1 0" are three). `due` is how many more tokens may come before the
    next `take`.
    """

    __slots__ = ("_look", "_novelty", "_two", "due", "length", "period", "plain")

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.period = self.length = self.plain = 0
        self.due = self._look = NEAR_LOOP - LONGEST_PERIOD  # tokens without novelty
        self._novelty = Novelty()
        self._two = ""  # the last two different tokens, as characters

    def take(self, tokens: tuple[int, ...], tail: str, in_cycle: bool) -> None:
        """Take the next tokens, `in_cycle` if the last 300 and more of all are an exact cycle.

        `tail` holds the last 1,200 or more of all, a character a token.
        """
        if in_cycle:
            self._novelty.repeat(tokens)
        else:
            self._novelty.take(tokens)
        run = self._novelty.run
        if not run:
            self.period, self._look = 0, NEAR_LOOP - LONGEST_PERIOD
        if run >= self._look and not self.period:
            self._judge(run, tail)
        self.due = self._look - run if run < self._look else NEAR_LOOP
        # the first repetition was new, and is part of the loop
        self.length = run + self.period
        self._count_plain(tail[len(tail) - len(tokens) :])

    def _judge(self, run: int, tail: str) -> None:
        """Call the last `run` tokens a loop, or say when to look again."""
        period = _usual_period(tail)
        if run + period < NEAR_LOOP:
            self._look = NEAR_LOOP - period
        elif _is_data(tail, period):
            self._look = run + NEAR_LOOP
        else:
            self.period = period

    def _count_plain(self, text: str) -> None:
        """Count the last tokens that are only two different ones; stripping stops at any other."""
        if text.strip(self._two):
            self._two, self.plain = text[-1:] + text.rstrip(text[-1:])[-1:], 0
            if text.strip(self._two):
                return
        self.plain += len(text)


def _usual_period(tail: str) -> int:
    """Return the median distance at which the last few tokens occur before; 1 if they do not."""
    ends = (tail[: len(tail) - probe] for probe in _PROBES)
    periods = sorted(filter(None, (distance(end, _NEEDLE, LONGEST_PERIOD) for end in ends)))
    return periods[len(periods) // 2] if periods else 1


def _is_data(tail: str, period: int) -> bool:
    """Whether what repeats with this period is data: rows of few signs, or records.

    Rows of few signs consist almost only of four tokens, as a matrix does. Records have a new token
    at three places or more, in every fourth repetition or more often; a sentence with a counter has
    one at a single place.
    """
    most = sum(count for _, count in Counter(tail).most_common(_SIGNS))
    if most > _SIGNS_SHARE * len(tail):
        return True
    grams = {tail[at : at + _CONTEXT + 1] for at in range(len(tail) - _CONTEXT)}
    followers = Counter(gram[:-1] for gram in grams)
    rounds = len(tail) / period
    often = max(rounds * _OFTEN, _LEAST_OFTEN)
    fields = [count for count in followers.values() if count >= often]
    # a date is one field, but changes at as many places as there are months
    return len(fields) >= _FIELDS and sum(fields) >= _EACH_ROUND * rounds
