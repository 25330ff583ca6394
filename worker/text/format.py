"""Numbers, times and names formatted for people."""

from datetime import datetime, timedelta

import msgspec

from .escape import escape_controls

GIB = 2**30
MIB = 2**20


def format_duration(seconds: float) -> str:
    """Format a duration: `0:42`, `5:00`, `1:05:00`, `2 days, 3:00:00`."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


def format_clock(at: datetime, now: datetime) -> str:
    """Format the time of day of `at`, with its weekday or date if it is not today."""
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at:%a %H:%M}" if at - now < timedelta(days=6) else f"{at:%d %b %H:%M}"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 job`, `2 jobs`, `1,204 jobs`; `plural` is for nouns that need more than an `s`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_done(jobs: int, rescued: int) -> str:
    """Return `5 done`, with the number of jobs with rescued answers if there are any."""
    return f"{jobs:,} done" + (f", of them {format_rescued(rescued)}" if rescued else "")


def format_rescued(jobs: int) -> str:
    """Return `2 with rescued answers`."""
    return f"{jobs:,} with rescued answers"


def format_size(number: int) -> str:
    """Format a number of bytes in GiB, or in MiB if it is less than one."""
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"


def printable(text: str) -> str:
    """Return `text` on one line, with control characters escaped."""
    return escape_controls(text).replace("\n", "\\x0a").replace("\t", "\\x09")


def format_number(value: float | None) -> str:
    """Format a number, with one decimal below 1000; `-` for `None`."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def format_percent(part: float, whole: float) -> str:
    """Format a share in per cent; `-` if `whole` is 0."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.0f}%" if share >= 10 or share == 0 else f"{share:.1f}%"


def format_seconds(value: float | None) -> str:
    """Format a duration in a suitable unit; `-` for `None`."""
    if value is None:
        return "-"
    if value < 1:
        return f"{1000 * value:.0f} ms" if value >= 0.01 or value == 0 else f"{1000 * value:.1f} ms"
    if value < 119.95:
        return f"{value:.1f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def as_text(value: object) -> str:
    """Return a value of JSON as text, a text without its quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
