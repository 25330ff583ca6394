"""While no attempt runs, the first Ctrl-C ends the work at once: in a load or a pause."""

import asyncio
import re
import signal
from collections.abc import Callable

import anyio
import psutil
import pytest

from helpers.drained import ONE, TWO, Notes, Site
from helpers.forks import Forks
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

SOON = 20
"""Seconds that no load and no pause in these tests would be over in."""


def when_told(notes: Notes, words: str, act: Callable[[], object]) -> None:
    """Act once a note has these words, and what it tells of has begun."""

    def on_note(text: str) -> None:
        if words in text:
            asyncio.get_running_loop().call_later(0.3, act)

    notes.on_note = on_note


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


async def test_a_stop_ends_the_first_load(site: Site, forks: Forks) -> None:
    forks.socket()  # what it is served by stays
    before = psutil.Process().children()
    site.submit({"prompt": "x", "model": "stuck"}, ONE)
    when_told(site.notes, "loading stuck", interrupt)
    with anyio.fail_after(SOON):
        outcome = await site.drain()
    assert (outcome.reason, outcome.exit_code) == (EndReason.STOPPED, 1)
    assert site.rows("select distinct status from jobs") == [("queued",)]
    assert site.rows("select count(*) from crashes") == [(0,)]
    said = site.notes.said.getvalue().splitlines()
    assert said[-1] == "stopping"
    assert psutil.Process().children() == before
    # and the next worker goes on
    site.notes = Notes()
    when_told(site.notes, "loading stuck", interrupt)
    with anyio.fail_after(SOON):
        await site.drain()


async def test_a_stop_ends_the_pause_before_a_model_is_loaded_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RELOAD_PAUSES", (600.0,))
    site.submit({"prompt": "x", "model": "deadly"})
    when_told(site.notes, "trying again in 600 s", interrupt)
    with anyio.fail_after(SOON):
        outcome = await site.drain()
    assert outcome.reason is EndReason.STOPPED
    assert site.rows("select status from jobs") == [("queued",)]


async def test_a_stop_ends_the_pause_in_the_middle_of_a_job_which_goes_back_to_the_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RELOAD_PAUSES", (600.0,))
    site.submit(TWO, ONE)
    when_told(site.notes, "trying again in 600 s", interrupt)
    with anyio.fail_after(SOON):
        outcome = await site.drain(["answer", "die_for_good"])
    assert (outcome.reason, outcome.tally.jobs) == (EndReason.STOPPED, 0)
    assert site.rows("select distinct status from jobs") == [("queued",)]
    assert site.rows("select turn, verdict from attempts") == [(1, "accept")]
    # the turn that was begun is made by the next worker, with its first attempt number
    (site.folder / "script.dead").unlink()
    site.notes = Notes()
    await site.drain()
    assert site.rows("select job_id, turn, attempt from attempts") == [
        (1, 1, 1),
        (1, 2, 1),
        (2, 1, 1),
    ]


async def test_a_stop_ends_the_built_in_conversation_and_the_jobs_before_it_are_queued_again(
    site: Site,
) -> None:
    site.submit(ONE, ONE, ONE, ONE)
    when_told(site.notes, "sending it a test prompt", interrupt)
    with anyio.fail_after(SOON):
        outcome = await site.drain(["die", "die", "die", "wait"], max_crashes=1)
    assert (outcome.reason, outcome.tally.jobs) == (EndReason.STOPPED, 0)
    assert site.rows("select status, error from jobs") == [("queued", None)] * 4


async def test_the_time_limit_ends_a_load_as_well(site: Site, drains: list[Drain]) -> None:
    site.submit({"prompt": "x", "model": "stuck"})
    when_told(site.notes, "loading stuck", lambda: drains[0].stop.end(EndReason.UNTIL))
    with anyio.fail_after(SOON):
        outcome = await site.drain()
    assert (outcome.reason, outcome.exit_code) == (EndReason.UNTIL, 0)


async def test_a_stop_in_an_attempt_lets_it_come_to_its_end_and_says_what_is_waited_for(
    site: Site,
) -> None:
    site.submit(TWO)
    interrupted: list[int] = []

    def once(count: int) -> None:
        if not interrupted:
            interrupted.append(count)
            interrupt()

    site.notes.on_tokens = once
    with anyio.fail_after(SOON):
        await site.drain(["slow"])
    assert site.rows("select turn from attempts") == [(1,)]
    said = site.notes.said.getvalue()
    # seven of the 4,096 tokens are there, unless its prompt was being read again by then
    wait = (
        r"stopping after the running attempt \(at most 4,0(89|96) tokens\b.*\); once more to stop"
    )
    assert re.search(wait, said)
