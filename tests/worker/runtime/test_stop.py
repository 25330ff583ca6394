"""When a drain ends by the clock or on request, and the auto-reset event."""

from collections.abc import Iterator
from datetime import UTC, datetime
from datetime import time as ClockTime
from zoneinfo import ZoneInfo

import anyio
import pytest

from mh_batch.jobs.errors import InputError
from mh_batch.worker.runtime.stop import (
    AutoResetEvent,
    EndReason,
    Stop,
    Zone,
    next_showing,
    parse_clock,
    wait_for_clock,
)

BERLIN = ZoneInfo("Europe/Berlin")
ZONE = Zone(
    lambda moment: datetime.fromtimestamp(moment, BERLIN).replace(tzinfo=None),
    lambda shown: shown.replace(tzinfo=BERLIN).timestamp(),
)


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "at", "expected"),
    [
        ("2026-06-01 20:00", "23:30", "2026-06-01 21:30"),  # 22:00 on the clock: later today
        ("2026-06-01 20:00", "07:30", "2026-06-02 05:30"),  # over midnight
        ("2026-06-01 20:00", "22:00", "2026-06-02 20:00"),  # just now: tomorrow
        ("2026-03-28 22:00", "07:30", "2026-03-29 05:30"),  # the clock is put forward meanwhile
        ("2026-03-28 22:00", "02:30", "2026-03-29 01:30"),  # and over it: 03:30 on the clock
        ("2026-10-24 22:00", "07:30", "2026-10-25 06:30"),  # the clock is put back meanwhile
        ("2026-10-24 22:00", "02:30", "2026-10-25 00:30"),  # its first 02:30
        ("2026-10-25 00:40", "02:30", "2026-10-25 01:30"),  # its second
        ("2026-10-25 01:40", "02:30", "2026-10-26 01:30"),
    ],
)
def test_the_clock_next_shows_it_on_that_moment(now: str, at: str, expected: str) -> None:
    assert next_showing(parse_clock(at), utc(now), ZONE) == utc(expected)


@pytest.mark.parametrize("text", ["", "7", "24:00", "07:60", "7.30", "07:30:00", "soon"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--until .*HH:MM"):
        parse_clock(text)
    assert parse_clock("7:05") == ClockTime(7, 5)


@pytest.mark.anyio
async def test_a_clock_that_is_put_back_or_forward_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mh_batch.worker.runtime.stop.LOOK_SECONDS", 0.0)
    shown: Iterator[float] = iter([900.0, -5000.0, 999.0, 4000.0])
    with anyio.fail_after(10):
        await wait_for_clock(1000.0, lambda: next(shown))
    assert list(shown) == []


@pytest.mark.anyio
async def test_an_event_that_is_set_before_anybody_waits_wakes_one_waiter() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    with anyio.fail_after(10):
        await event.wait()
    with anyio.move_on_after(0) as scope:
        await event.wait()
    assert scope.cancelled_caught


def test_the_first_request_after_the_time_limit_does_not_stop_at_once() -> None:
    stop = Stop()
    stop.end(EndReason.UNTIL)
    assert stop.request()
    assert not stop.now.is_set()
    assert stop.reason is EndReason.UNTIL
    assert not stop.request()
    assert stop.now.is_set()
