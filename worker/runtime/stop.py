"""When a drain ends: on request, after so many jobs, or at a time of the clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from datetime import time as ClockTime
from enum import StrEnum
from typing import NamedTuple

import anyio

from mh_batch.jobs.errors import InputError

LOOK_SECONDS = 30.0
"""How often the clock is looked at again: it may be set, and a machine may sleep."""


class EndReason(StrEnum):
    """Why a drain ended, as the `runs` table has it."""

    EMPTY = "queue_empty"
    MAX_JOBS = "max_jobs_reached"
    UNTIL = "time_reached"
    STOPPED = "stopped"
    KILLED = "stopped_now"
    ERROR = "error"


class AutoResetEvent:
    """Wakes the one who waits; rung while nobody waits, it wakes the next who does at once."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake whoever waits."""
        self._rung.set()

    async def heard(self) -> None:
        """Wait until it rings, or return at once if it has since the last time."""
        await self._rung.wait()
        self._rung = anyio.Event()


class Stop:
    """How urgently the drain is to end: `soon` at the end of the turn, or `now`, or not yet.

    `bell` is rung whenever that changes. `reason` says why it is to end.
    """

    def __init__(self, bell: AutoResetEvent) -> None:
        self.soon = False
        self.now = anyio.Event()
        self.reason = EndReason.STOPPED
        self.bell = bell
        self._asked = False
        self._cut: anyio.CancelScope | None = None

    @property
    def at_once(self) -> bool:
        """Whether what is under way ends as soon as a stop is asked for."""
        return self._cut is not None

    @contextmanager
    def cutting_short(self) -> Iterator[None]:
        """Break off the block when the drain is to end: for what is no turn, a load or a pause."""
        with anyio.CancelScope() as scope:
            self._cut = scope
            if self.soon:
                scope.cancel()
            try:
                yield
            finally:
                self._cut = None

    def ask(self) -> bool:
        """Take one person's request to stop; return whether it is the first."""
        if self._asked:
            self.reason = EndReason.KILLED
            self.now.set()
            return False
        self._asked = True
        if not self.soon:
            self.end(EndReason.STOPPED)
        return True

    def end(self, reason: EndReason) -> None:
        """End after the current turn, as if somebody had asked, for `reason`.

        Where no turn is under way that is at once.
        """
        self.soon, self.reason = True, reason
        self.bell.ring()
        if self._cut is not None:
            self._cut.cancel()


class Zone(NamedTuple):
    """How clocks on the wall go: `shown` is what they show at a moment (seconds since 1970),
    `moments` when they show something that is asked for by day, hour and minute."""

    shown: Callable[[float], datetime]
    moment: Callable[[datetime], float]


LOCAL = Zone(datetime.fromtimestamp, datetime.timestamp)


def parse_clock(text: str) -> ClockTime:
    """Return the time that `HH:MM` says; raises `InputError` for anything else."""
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  # a time without a day
    except ValueError:
        raise InputError(f"--until {text}: write it as HH:MM, such as 07:30") from None


def next_showing(at: ClockTime, now: float, zone: Zone = LOCAL) -> float:
    """Return the next moment after `now` at which the clock shows `at`.

    Where the clock is put back over it, that may be its second time on that day. A time that the
    clock leaves out when it is put forward comes as much later as the clock is put forward.
    """
    today = zone.shown(now).date()
    for day in (today + timedelta(days=n) for n in range(3)):
        first = datetime.combine(day, at)
        moments = [zone.moment(first)]
        again = zone.moment(first.replace(fold=1))
        if zone.shown(again).replace(fold=0) == first:
            moments.append(again)
        for moment in moments:
            if moment > now:
                return moment
    raise AssertionError("a clock shows every time within three days")


async def wait_for_clock(moment: float, wall: Callable[[], float] = time.time) -> None:
    """Wait until the clock has come to `moment`, however it is set meanwhile."""
    while (left := moment - wall()) > 0:  # noqa: ASYNC110  # a clock is no event
        await anyio.sleep(min(left, LOOK_SECONDS))
