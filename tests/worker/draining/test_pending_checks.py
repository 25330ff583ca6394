"""What happens to a drain while answers are with their checks: stop, cancel, a kill, too many."""

import asyncio
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from helpers.command_line import mh_batch, mh_batch_process, rows, write_lines
from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.generation import Generation
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.form_check import check_generation
from mh_batch.worker.draining.in_flight import answers
from mh_batch.worker.draining.in_flight.active_jobs import ActiveJobs
from mh_batch.worker.draining.in_flight.pending_checks import MOST_BESIDE
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import AutoResetEvent, EndReason

pytestmark = pytest.mark.anyio

SECONDS = 30.0
ATTEMPTS = "select turn, attempt, verdict, retry_reason from attempts"
KILLER = """
import os, pathlib, signal

seen = pathlib.Path(__file__).with_name("seen")

def check(job, answer):
    before = seen.exists()
    with seen.open("a") as log:
        log.write(repr(answer) + "\\n")
    if not before:
        os.kill(os.getppid(), signal.SIGKILL)
"""


async def test_after_the_first_request_to_stop_an_answer_that_is_rejected_is_on_record(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(TWO)
    loop = asyncio.get_running_loop()

    def check(_job: dict[str, Any], answer: dict[str, Any]) -> str | None:
        if answer["attempt"] > 1:
            return None
        loop.call_soon_threadsafe(drains[0].stop.request)
        return "no"

    outcome = await site.drain(accept=check)
    assert outcome.reason is EndReason.STOPPED
    assert site.rows(ATTEMPTS) == [(1, 1, "retry", "rejected")]
    assert site.rows("select status from jobs") == [("queued",)]


async def test_after_the_second_request_to_stop_an_answer_that_is_being_checked_is_dropped(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)
    loop, free = asyncio.get_running_loop(), threading.Event()

    def check(_job: dict[str, Any], _answer: dict[str, Any]) -> str | None:
        for _ in range(2):
            loop.call_soon_threadsafe(drains[0].stop.request)
        free.wait(SECONDS)
        return None

    outcome = await site.drain(accept=check)
    free.set()
    assert outcome.reason is EndReason.KILLED
    assert site.rows(ATTEMPTS) == []
    assert site.rows("select status from jobs") == [("queued",)]


async def test_a_job_that_is_cancelled_while_its_answer_is_checked_makes_no_other_attempt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit(ONE, ONE)
    known = threading.Event()
    original = ActiveJobs.cancel_requested

    async def cancel_requested(self: ActiveJobs) -> None:
        await original(self)
        if await self.asked_to_cancel(1):
            known.set()

    monkeypatch.setattr(ActiveJobs, "cancel_requested", cancel_requested)

    def check(job: dict[str, Any], _answer: dict[str, Any]) -> str | None:
        if job["custom_id"] != "line-1":
            return None
        site.cancel("1/line-1")
        return "no" if known.wait(SECONDS) else None

    outcome = await site.drain(accept=check)
    assert outcome.tally.ended == {Status.CANCELLED: 1, Status.DONE: 1}
    assert site.rows("select custom_id, status from jobs order by id") == [
        ("line-1", "cancelled"),
        ("line-2", "done"),
    ]
    assert sorted(site.rows("select job_id, attempt from attempts")) == [(1, 1), (2, 1)]


async def test_the_model_waits_once_so_many_answers_are_with_their_checks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = MOST_BESIDE + 4
    site.submit(*[ONE] * jobs)
    idle, began = threading.Event(), list[int]()
    original = AutoResetEvent.wait

    async def wait(self: AutoResetEvent) -> None:
        # nothing is with the model, and nothing goes there
        if site.notes.began and site.notes.open == 0 and not idle.is_set():
            began.append(len(site.notes.began))
            idle.set()
        await original(self)

    monkeypatch.setattr(AutoResetEvent, "wait", wait)
    outcome = await site.drain(accept=lambda _job, _answer: None if idle.wait(SECONDS) else "late")
    assert outcome.tally.ended == {Status.DONE: jobs}
    assert began == [1 + MOST_BESIDE]
    assert len(site.notes.began) == jobs


async def test_while_the_form_of_an_answer_is_looked_at_the_worker_shows_that_it_is_alive(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit({**ONE, "response_format": {"type": "json_object"}})
    looked, went_on = threading.Event(), threading.Event()

    def look(generation: Generation, form: Form | None) -> Generation:
        looked.set()
        assert went_on.wait(SECONDS)
        return check_generation(generation, form)

    monkeypatch.setattr(answers, "check_generation", look)

    async def go_on() -> None:
        await anyio.to_thread.run_sync(partial(looked.wait, SECONDS))
        went_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go_on)
        outcome = await site.drain(["json"])
    assert outcome.tally.ended == {Status.DONE: 1}


def test_an_answer_whose_check_was_under_way_when_the_worker_was_killed_is_written_again(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path, [{"prompt": "Name a river.", "max_tokens": 400}])
    (tmp_path / "check.py").write_text(KILLER)
    mh_batch(tmp_path, "submit", "convos.jsonl", "--set", "seed=3")
    work = ("work", "--model", "demo", "--accept", "check.py:check")
    mh_batch_process(tmp_path, *work, code=-signal.SIGKILL)
    assert rows(tmp_path, "SELECT count(*) FROM attempts") == [(0,)]
    mh_batch(tmp_path, *work)
    first, second = (tmp_path / "seen").read_text().splitlines()
    assert first == second
    ((final, attempts),) = rows(tmp_path, "SELECT final, attempts FROM turns")
    assert attempts == 1
    assert repr(final) in first
