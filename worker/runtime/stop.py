"""When a drain ends: on request, after a number of jobs, or at a time of day."""

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
"""How often the clock is checked: it may be set, and a machine may sleep."""


class EndReason(StrEnum):
    """Why a drain ended, as the `runs` table has it.

    `IDLE` is a request to stop while it waited for new work: no job was cut short.
    """

    EMPTY = "queue_empty"
    MAX_JOBS = "max_jobs_reached"
    UNTIL = "time_reached"
    STOPPED = "stopped"
    IDLE = "stopped_while_idle"
    KILLED = "stopped_now"
    ERROR = "error"


class AutoResetEvent:
    """An event that resets itself when a waiter wakes up."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the waiter, or the next one if there is none."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until the event is set, then reset it."""
        await self._event.wait()
        self._event = anyio.Event()


class Stop:
    """Whether a drain is to end, and how soon: `soon` is after the running attempts, `now` at once.

    `reason` says why. `wakeup` is set whenever a waiting drain has something to look at.
    """

    def __init__(self) -> None:
        self.soon = False
        self.now = anyio.Event()
        self.reason = EndReason.STOPPED
        self.wakeup = AutoResetEvent()
        self._requested = False
        self._scope: anyio.CancelScope | None = None

    @property
    def at_once(self) -> bool:
        """Whether a request to stop takes effect at once: no attempt is running."""
        return self._scope is not None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Leave the block as soon as the drain is to end: for a load or a pause only."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            if self.soon:
                scope.cancel()
            try:
                yield
            finally:
                self._scope = None

    def request(self) -> bool:
        """Take a person's request to stop; return whether it is the first. The second ends now."""
        if self._requested:
            self.reason = EndReason.KILLED
            self.now.set()
            return False
        self._requested = True
        if not self.soon:
            self.end(EndReason.STOPPED)
        return True

    def end(self, reason: EndReason) -> None:
        """End after the running attempts, or at once where none is running."""
        self.soon, self.reason = True, reason
        self.wakeup.set()
        if self._scope is not None:
            self._scope.cancel()


class Zone(NamedTuple):
    """A time zone: `local` is the wall time of a Unix time, `moment` its inverse."""

    local: Callable[[float], datetime]
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

    If the clock is put back over that time, this may be its second occurrence on that day. A time
    that is skipped when the clock is put forward comes later by as much.
    """
    today = zone.local(now).date()
    for day in (today + timedelta(days=n) for n in range(3)):
        first = datetime.combine(day, at)
        moments = [zone.moment(first)]
        again = zone.moment(first.replace(fold=1))
        if zone.local(again).replace(fold=0) == first:
            moments.append(again)
        for moment in moments:
            if moment > now:
                return moment
    raise AssertionError("a clock shows every time within three days")


async def wait_for_clock(moment: float, wall: Callable[[], float] = time.time) -> None:
    """Wait until the clock reaches `moment`, even if it is set meanwhile."""
    while (left := moment - wall()) > 0:  # noqa: ASYNC110  # a clock is not an event
        await anyio.sleep(min(left, LOOK_SECONDS))
