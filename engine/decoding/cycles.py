"""Exact cycles at the end of a sequence of tokens, held as a string of one character a token.

A string search finds in one call what comparisons in Python take hundreds for. The last `n`
tokens have the period `p` if each of them but the first `p` equals the token `p` before.
"""

LONGEST_PERIOD = 300
_GLANCE = 32  # tokens; most text is dismissed because its last few do not stand shortly before


def period_of(tail: str) -> int:
    """Return the shortest period `p`, 1 to 300, that the last `300 + p` characters have, or 0.

    In a cycle each ending of up to 300 characters stands `p` before as well, and one of 300 stands
    nowhere nearer. The search begins with a short ending. Where its nearest earlier occurrence is
    no period of all that must have one, the next ending to search for reaches to the character
    that breaks it: so few are searched for, and each begins with what does not fit in.
    """
    needle = _GLANCE
    while period := distance(tail, needle, LONGEST_PERIOD):
        enough = LONGEST_PERIOD + period
        if has_period(tail, period, enough):
            return period
        needle = min(periodic_length(tail, period, needle + period, enough) + 1, LONGEST_PERIOD)
    return 0


def closing_cycle(tail: str, shortest: int, repetitions: int) -> tuple[int, int]:
    """Return period and length of the longest cycle that `tail` ends in, (0, 0) for none.

    Its period is 1 to 300, its length `shortest` or more and `repetitions` periods or more.
    """
    found = (0, 0)
    for period in range(1, LONGEST_PERIOD + 1):
        least = max(repetitions * period, shortest, found[1] + 1)
        if has_period(tail, period, least):
            found = (period, periodic_length(tail, period, least))
    return found


def periodic_length(tail: str, period: int, least: int, most: int | None = None) -> int:
    """Return how many last characters of `tail` have this period, known to be `least` of them.

    No more than `most` are looked at, `None` for all.
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
    """Whether `tail` has as many as `length` characters, and the last of them this period."""
    return length <= len(tail) and tail[-length:-period] == tail[period - length :]


def distance(tail: str, needle: int, longest: int) -> int:
    """Return how far before its end, at most `longest`, its last `needle` stand as well, or 0."""
    begin = len(tail) - needle
    if begin < 1:
        return 0
    found = tail.rfind(tail[begin:], max(0, begin - longest), len(tail) - 1)
    return begin - found if found >= 0 else 0
