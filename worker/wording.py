"""Numbers and names as people read them."""

from datetime import datetime, timedelta

GIB = 2**30
MIB = 2**20


def duration(seconds: float) -> str:
    """Return a duration as people write it: `0:42`, `5:00`, `1:05:00`, `2 days, 3:00:00`."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


def clock(at: datetime, now: datetime) -> str:
    """Return the time of day of `at`, with its weekday or date where that is not today."""
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at:%a %H:%M}" if at - now < timedelta(days=6) else f"{at:%d %b %H:%M}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 job`, `2 jobs`, `1,204 jobs`; `plural` where an `s` does not make it."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Return a number of bytes in GiB, or in MiB below one of these."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def printable(text: str) -> str:
    """Return `text` on one line and without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
