"""What a drain waits for after the first request to stop, and about how long."""

import time

import msgspec

from mh_batch.worker.text.format import format_count, format_duration


class Decoding(msgspec.Struct):
    """How far an open attempt is: it has `tokens` of at most `most`.

    `began` is when it had its `first` number of tokens, by the clock of durations; `None` while its
    prompt is read or waits for that.
    """

    most: int
    tokens: int = 0
    first: int = 0
    began: float | None = None

    def take(self, tokens: int, now: float) -> None:
        """Take note that it has so many tokens."""
        if self.began is None and tokens:
            self.first, self.began = tokens, now
        self.tokens = tokens

    @property
    def left(self) -> int:
        """How many tokens it may still get."""
        return max(0, self.most - self.tokens)

    def seconds_left(self, now: float) -> float | None:
        """Return how long that takes at its speed so far; `None` before two reports of tokens."""
        if self.began is None or self.tokens <= self.first or now <= self.began:
            return None
        return self.left * (now - self.began) / (self.tokens - self.first)


class StopWait(msgspec.Struct, frozen=True):
    """What is waited for: attempts with at most `tokens` to come, and answers being checked.

    `seconds` is how long the tokens take at the speed so far; `None` if that is not known.
    """

    attempts: int = 0
    tokens: int = 0
    seconds: float | None = None
    checks: int = 0

    def __str__(self) -> str:
        """Return it in words; empty if nothing is waited for."""
        parts = []
        if self.attempts:
            about = "" if self.seconds is None else f", about {format_duration(self.seconds)}"
            what, each = "the running attempt", ""
            if self.attempts > 1:
                what, each = f"the {self.attempts} running attempts", " each"
            parts.append(f"{what} (at most {format_count(self.tokens, 'token')}{each}{about})")
        if self.checks:
            parts.append(f"{format_count(self.checks, 'check')} of an answer")
        return " and ".join(parts)


def wait_for(attempts: "list[Decoding]", checks: int, now: float | None = None) -> StopWait:
    """Return what the open `attempts` and `checks` are waited for; `now` is for tests."""
    at = time.monotonic() if now is None else now
    known = [left for one in attempts if (left := one.seconds_left(at)) is not None]
    return StopWait(
        attempts=len(attempts),
        tokens=max((one.left for one in attempts), default=0),
        # they decode side by side: the longest is waited for
        seconds=max(known) if known and len(known) == len(attempts) else None,
        checks=checks,
    )
