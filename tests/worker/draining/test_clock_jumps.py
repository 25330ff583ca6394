"""The clock of the machine is set back during a drain: only times differ."""

from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from helpers.command_line import mh_batch
from helpers.drained import ONE, TWO, Site

pytestmark = pytest.mark.anyio

START = datetime(2026, 3, 29, 23, 0, tzinfo=UTC)


class BackwardClock(datetime):
    """A clock that shows an hour earlier at each look."""

    looks = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        cls.looks += 1
        return cls.fromtimestamp((START - timedelta(hours=cls.looks)).timestamp(), tz)


@pytest.fixture
def backwards(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A queue whose every time is before the one written last."""
    monkeypatch.setattr("mh_batch.store.clock.datetime", BackwardClock)
    site.submit(TWO, ONE, ONE)
    return site


async def test_a_clock_that_goes_back_changes_times_only(backwards: Site) -> None:
    outcome = await backwards.drain(["answer", "malformed", "die", "answer"])
    assert outcome.exit_code == 0
    assert outcome.seconds >= 0
    assert backwards.rows("select job_id, turn, attempt, verdict from attempts order by id") == [
        (1, 1, 1, "accept"),
        (1, 2, 1, "retry"),
        (1, 2, 2, "accept"),
        (2, 1, 1, "accept"),
        (3, 1, 1, "accept"),
    ]
    assert backwards.rows("select count(*) from attempts where finished_at >= started_at") == [(0,)]
    # durations are measured, not read off that clock
    assert backwards.rows("select count(*) from timings where queue_seconds < 0") == [(0,)]
    assert backwards.sound()


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["results"],
        ["show", "1", "--attempts"],
        ["timings"],
        ["report", "-o", "report.html"],
        ["query", "select * from throughput"],
        ["query", "select * from results"],
    ],
    ids=" ".join,
)
async def test_reports_work_though_runs_ended_before_they_began(
    arguments: list[str], backwards: Site, tmp_path: Path
) -> None:
    await backwards.drain()
    mh_batch(tmp_path, *arguments)
