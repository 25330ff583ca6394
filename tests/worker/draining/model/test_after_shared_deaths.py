"""A death of the model process while several conversations are with it."""

import os
import signal

import anyio
import anyio.lowlevel
import pytest

from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.record import AttemptKey, ClaimedJob
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.draining.model.after_death import Deaths
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

FOUR_DIE = ["decoding", "decoding", "decoding", "die"]
SIX_DIE = ["decoding"] * 5 + ["die"]


async def test_it_is_recorded_for_each_of_them_as_one_death_and_blames_none(site: Site) -> None:
    site.submit(*[ONE] * 4)
    outcome = await site.drain(FOUR_DIE, parallel=4, max_crashes=1)
    assert outcome.tally.ended == {Status.DONE: 4}
    assert site.rows("select job_id, alone, phase, signal from crashes order by job_id") == [
        (job, 0, "decode", 9) for job in range(1, 5)
    ]
    assert site.rows("select count(distinct at) from crashes") == [(1,)]
    assert site.rows("select attempt from attempts") == [(1,)] * 4


async def test_each_of_them_is_run_alone_next(site: Site) -> None:
    site.submit(*[ONE] * 9)
    await site.drain(SIX_DIE, parallel=4)
    assert [open for _, open in site.notes.began[:6]] == [1, 2, 3, 4, 5, 6]
    assert site.notes.began[6:12] == [(f"line-{n}", 1) for n in range(1, 7)]
    # all have passed
    assert [open for _, open in site.notes.began[12:]] == [1, 2, 3]
    assert "running 6 conversations one by one to see why" in site.notes.said.getvalue()


async def test_each_is_run_alone_by_the_next_worker_too(site: Site, drains: list[Drain]) -> None:
    site.submit(*[ONE] * 9)

    def stop(text: str) -> None:
        if "one by one" in text:
            drains[0].stop.request()

    site.notes.on_note = stop
    assert (await site.drain(SIX_DIE, parallel=4)).reason is EndReason.STOPPED
    site.notes.on_note, site.notes.began = lambda _: None, []
    await site.drain(parallel=4)
    assert site.notes.began[:6] == [(f"line-{n}", 1) for n in range(1, 7)]
    assert [open for _, open in site.notes.began[6:]] == [1, 2, 3]
    assert site.rows("select status, count(*) from jobs group by 1") == [("done", 9)]


async def test_all_choices_are_run_alone_by_the_next_worker(
    site: Site, drains: list[Drain]
) -> None:
    site.submit({**ONE, "n": 3}, ONE)

    def stop(text: str) -> None:
        if "one by one" in text:
            drains[0].stop.request()

    site.notes.on_note = stop
    await site.drain(FOUR_DIE, parallel=4)
    site.notes.on_note, site.notes.began = lambda _: None, []
    await site.drain(parallel=4)
    assert site.notes.began == [*[("line-1", 1)] * 3, ("line-2", 1)]


async def test_all_of_them_have_passed_before_any_other_begins(site: Site) -> None:
    # the first turns of four jobs die, so their second turns and the fifth job come afterwards
    site.submit(*[TWO] * 4, ONE)
    await site.drain(["decoding"] * 4 + ["die"], parallel=4)
    names = [f"line-{n}" for n in range(1, 6)]
    assert site.notes.began[5:10] == [(name, 1) for name in names]


async def test_only_deaths_alone_count_and_the_others_get_done(site: Site) -> None:
    site.submit(*[ONE] * 4)
    outcome = await site.drain([*FOUR_DIE, "answer", "die", "die"], parallel=4)
    assert outcome.tally.ended == {Status.DONE: 3, Status.FAILED: 1}
    assert site.rows("select id, error_code from jobs where status = 'failed'") == [
        (2, "model_crashed")
    ]
    assert site.rows("select job_id, alone from crashes where alone order by id") == [
        (2, 1),
        (2, 1),
    ]


async def test_a_cause_that_was_found_alone_leaves_the_number_of_slots(site: Site) -> None:
    site.submit(*[ONE] * 10)
    script = [*FOUR_DIE, *["die"] * 2, *["answer"] * 3]
    await site.drain(script, parallel=2)
    site.submit(*[ONE] * 4)
    assert "so it is the sum" not in site.notes.said.getvalue()
    assert site.rows("select most_rows from runs") == [(None,)]


async def test_a_second_shared_death_after_all_passed_halves_how_many_run_at_once(
    site: Site,
) -> None:
    site.submit(*[ONE] * 24)
    script = [*SIX_DIE, *["answer"] * 6, *SIX_DIE, *["answer"] * 6]
    outcome = await site.drain(script, parallel=4)
    assert outcome.tally.ended == {Status.DONE: 24}
    assert max(open for _, open in site.notes.began[18:24]) == 1
    # half of the slots, not of those whose prompts were read ahead as well
    assert max(open for _, open in site.notes.began[24:]) == 2
    assert "from now on at most 2 conversations at once" in site.notes.said.getvalue()
    assert site.rows("select most_rows from runs") == [(2,)]


async def test_it_goes_down_to_one_at_a_time(site: Site) -> None:
    site.submit(*[ONE] * 24)
    two_die = ["decoding", "die"]
    script = [*SIX_DIE, *["answer"] * 6, *SIX_DIE, *["answer"] * 6, *two_die]
    outcome = await site.drain(script, parallel=4)
    assert outcome.tally.ended == {Status.DONE: 24}
    assert "from now on at most 1 conversation at once" in site.notes.said.getvalue()
    assert site.rows("select most_rows from runs") == [(1,)]
    assert {open for _, open in site.notes.began[26:]} == {1}


async def test_a_second_shared_death_long_after_the_first_halves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.after_death.UNRELATED", 6)
    site.submit(*[ONE] * 24)
    script = [*SIX_DIE, *["answer"] * 6, *SIX_DIE]
    await site.drain(script, parallel=4)
    assert site.notes.said.getvalue().count("one by one to see why") == 2
    assert site.rows("select most_rows from runs") == [(None,)]


async def test_a_death_while_the_next_attempt_is_on_its_way_fails_no_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit(ONE, ONE)
    asked = 0
    ask = Deaths.is_suspect

    async def die_at_the_third(deaths: Deaths, job: ClaimedJob, key: AttemptKey) -> bool:
        nonlocal asked
        asked += 1
        suspect = await ask(deaths, job, key)
        supervisor = deaths._context.supervisor
        if asked == 3 and supervisor.pid is not None:
            os.kill(supervisor.pid, signal.SIGKILL)
            with anyio.fail_after(30):
                while supervisor.running:
                    await anyio.lowlevel.checkpoint()
        return suspect

    def submit_one_more(_: int) -> None:
        if site.rows("select count(*) from jobs") == [(2,)]:
            site.submit(ONE)

    monkeypatch.setattr(Deaths, "is_suspect", die_at_the_third)
    site.notes.on_tokens = submit_one_more
    await site.drain(["decoding", "decoding", "answer"], parallel=4)
    assert site.rows("select status, count(*) from jobs group by 1") == [("done", 3)]
    assert site.rows("select count(*), sum(alone) from crashes") == [(2, 0)]


async def test_a_death_by_the_watchdog_makes_nobody_suspect(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.WATCHDOG_SECONDS", 0.0)
    site.submit(*[ONE] * 4)
    await site.drain(["decoding"] * 3 + ["watchdog"], parallel=4)
    assert [open for _, open in site.notes.began] == [1, 2, 3, 4] * 2
    assert site.rows("select forgiven, alone from crashes") == [(1, 0)] * 4


async def test_a_death_after_a_request_to_stop_leaves_the_jobs_to_the_next_worker(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 3)
    site.notes.on_tokens = lambda _: drains[0].stop.soon or drains[0].stop.request()
    outcome = await site.drain(["decoding", "decoding", "die"], parallel=3)
    assert outcome.reason is EndReason.STOPPED
    assert site.rows("select status, count(*) from jobs group by 1") == [("queued", 3)]
    site.notes.on_tokens = lambda _: None
    assert (await site.drain(parallel=3)).tally.ended == {Status.DONE: 3}


async def test_an_attempt_of_a_job_that_is_over_is_not_run_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit({**ONE, "n": 2}, *[ONE] * 3)
    feed = JobRun.feed

    def fail(self: JobRun, choice: int, *rest: object, **named: object) -> None:
        if len(self._choices) > 1:
            raise RuntimeError("injected")
        feed(self, choice, *rest, **named)  # type: ignore[arg-type]

    async def too_late(*_: object) -> None:
        """The process dies before it takes a cancellation."""

    monkeypatch.setattr(JobRun, "feed", fail)
    monkeypatch.setattr(ModelSupervisor, "cancel", too_late)
    script = ["answer", "decoding", "decoding", "decoding", "die"]
    outcome = await site.drain(script, parallel=2)
    assert outcome.tally.ended == {Status.FAILED: 1, Status.DONE: 3}
    assert site.rows("select job_id, alone from crashes order by id") == [
        (job, 0) for job in range(1, 5)
    ]
    assert "running 3 conversations one by one" in site.notes.said.getvalue()
    assert site.notes.began[5:] == [(f"line-{n}", 1) for n in (2, 3, 4)]
