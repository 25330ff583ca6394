"""Finds exact cycles at the end of a token sequence, given as a string of one character a token.

One string search replaces hundreds of comparisons in Python. The last `n` tokens have the period
`p` if each of them, except the first `p`, equals the token `p` places before it.
"""

LONGEST_PERIOD = 300
# tokens of the first search; most text has no cycle, because these do not occur shortly before
_GLANCE = 32


def period_of(tail: str) -> int:
    """Return the shortest period `p`, 1 to 300, that the last `300 + p` characters have, or 0.

    In a cycle, each ending of up to 300 characters also occurs `p` characters before, and one of
    300 occurs nowhere nearer. The search begins with a short ending. If the distance to its nearest
    earlier occurrence is not the period of enough characters, the next ending is extended to the
    character that breaks the period. So there are few searches.
    """
    needle = _GLANCE
    while period := distance(tail, needle, LONGEST_PERIOD):
        enough = LONGEST_PERIOD + period
        if has_period(tail, period, enough):
            return period
        needle = min(periodic_length(tail, period, needle + period, enough) + 1, LONGEST_PERIOD)
    return 0


def closing_cycle(tail: str, shortest: int, repetitions: int) -> tuple[int, int]:
    """Return period and length of the longest cycle at the end of `tail`, (0, 0) for none.

    Its period is 1 to 300, its length at least `shortest` and at least `repetitions` periods.
    """
    found = (0, 0)
    for period in range(1, LONGEST_PERIOD + 1):
        least = max(repetitions * period, shortest, found[1] + 1)
        if has_period(tail, period, least):
            found = (period, periodic_length(tail, period, least))
    return found


def periodic_length(tail: str, period: int, least: int, most: int | None = None) -> int:
    """Return how many of the last characters of `tail` have this period; `least` are known to.

    At most `most` are examined, `None` for all.
    """
    end = len(tail)
    most = end if most is None else min(most, end)
    if has_period(tail, period, most):
        return most
    while most - least > 1:
        middle = (least + most) // 2
        start, known = end - middle, end - least
        if tail[start:known] == tail[start + period : known + period]:
            least = middle
        else:
            most = middle
    return least


def has_period(tail: str, period: int, length: int) -> bool:
    """Whether `tail` has at least `length` characters, and the last `length` have this period."""
    return length <= len(tail) and tail[-length:-period] == tail[period - length :]


def distance(tail: str, needle: int, longest: int) -> int:
    """Return how far back the last `needle` characters occur again, at most `longest`, else 0."""
    begin = len(tail) - needle
    if begin < 1:
        return 0
    found = tail.rfind(tail[begin:], max(0, begin - longest), len(tail) - 1)
    return begin - found if found >= 0 else 0
