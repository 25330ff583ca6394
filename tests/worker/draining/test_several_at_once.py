"""Several conversations with the model at once, one of which ends, fails or is cancelled."""

import pytest

from helpers.drained import ONE, TWO, Notes, Site
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.status import Status
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.model_process.client import ModelClient
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

STATUSES = "select status, count(*) from jobs group by status order by status"
BY_JOB = "select status, error_code from jobs order by id"


def after(site: Site, reports: int, call: object) -> None:
    """Call once the model has reported so many times from the attempts that are with it."""
    left = [reports]

    def count(_: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            call()  # type: ignore[operator]

    site.notes.on_tokens = count


async def test_the_slots_are_full_and_the_next_prompts_are_read_ahead(site: Site) -> None:
    site.submit(*[ONE] * 12)
    outcome = await site.drain([*["decoding"] * 5, "answer"], parallel=4)
    assert outcome.tally.ended == {Status.DONE: 12}
    assert max(open for _, open in site.notes.began) == 6
    # the first six wait for each other, and each that ends makes room for one more
    assert [open for _, open in site.notes.began] == [1, 2, 3, 4, 5, 6, *[6] * 6]


async def test_a_quarter_of_many_slots_is_read_ahead(site: Site) -> None:
    site.submit(*[ONE] * 24)
    outcome = await site.drain([*["decoding"] * 19, "answer"], parallel=16)
    assert outcome.tally.ended == {Status.DONE: 24}
    assert max(open for _, open in site.notes.began) == 20


async def test_the_choices_of_one_prompt_run_side_by_side(site: Site) -> None:
    site.submit({**ONE, "n": 3})
    outcome = await site.drain(["decoding", "decoding", "answer"], parallel=4)
    assert outcome.tally.all_well
    turns = site.rows("select choice, attempts, complete from turns order by choice")
    assert turns == [(0, 1, 1), (1, 1, 1), (2, 1, 1)]


async def test_the_next_turn_of_a_job_goes_before_a_new_job(site: Site) -> None:
    site.submit(*[TWO] * 4)
    await site.drain(parallel=2)
    began = [name for name, _ in site.notes.began]
    assert sorted(began) == sorted([f"line-{n}" for n in range(1, 5)] * 2)
    assert site.rows("select job_id, turn from turns order by job_id, turn") == [
        (job, turn) for job in range(1, 5) for turn in (1, 2)
    ]


async def test_a_retry_is_made_beside_the_others(site: Site) -> None:
    site.submit(*[ONE] * 3)
    outcome = await site.drain(["decoding", "decoding", "malformed"], parallel=3)
    assert outcome.tally.all_well
    assert site.rows("select verdict, count(*) from attempts group by 1 order by 1") == [
        ("accept", 3),
        ("retry", 1),
    ]


async def test_a_prompt_that_does_not_fit_fails_its_job_and_leaves_the_others(site: Site) -> None:
    site.submit(*[ONE] * 4)
    await site.drain(["decoding", "decoding", "too_long"], parallel=4)
    assert site.rows(BY_JOB) == [
        ("done", None),
        ("done", None),
        ("failed", "prompt_too_long"),
        ("done", None),
    ]


async def test_a_choice_that_fails_takes_the_other_choices_of_its_job_back(site: Site) -> None:
    site.submit({**ONE, "n": 3}, ONE)
    await site.drain(["too_long", "decoding", "finishing", "finishing"], parallel=4)
    assert site.rows(BY_JOB) == [("failed", "prompt_too_long"), ("done", None)]
    assert site.rows("select job_id from attempts") == [(2,)]


async def test_a_job_that_is_cancelled_leaves_the_others(site: Site) -> None:
    site.submit(*[TWO] * 3)
    after(site, 3, lambda: site.cancel("1/line-2"))
    outcome = await site.drain(["finishing"] * 3, parallel=3)
    assert outcome.tally.ended == {Status.DONE: 2, Status.CANCELLED: 1}
    assert site.rows("select status from jobs order by id") == [
        ("done",),
        ("cancelled",),
        ("done",),
    ]
    assert site.rows("select job_id, count(*) from turns group by job_id") == [(1, 2), (3, 2)]


async def test_after_the_first_request_to_stop_what_decodes_is_finished_and_what_waits_taken_back(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[TWO] * 6)
    after(site, 4, lambda: drains[0].stop.request())
    outcome = await site.drain(["finishing", "finishing", "reading", "waiting"], parallel=2)
    assert outcome.reason is EndReason.STOPPED
    assert site.rows("select job_id, turn from turns order by 1") == [(1, 1), (2, 1)]
    assert site.rows(STATUSES) == [("queued", 6)]
    site.notes.on_tokens = lambda _: None
    assert (await site.drain(parallel=2)).reason is EndReason.EMPTY
    assert site.rows("select job_id, turn, attempt from attempts order by 1, 2") == [
        (job, turn, 1) for job in range(1, 7) for turn in (1, 2)
    ]


async def test_after_a_request_to_stop_a_turn_gets_its_retries_in_the_next_drain(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 5)
    after(site, 2, lambda: drains[0].stop.request())
    outcome = await site.drain(["decoding", "malformed"], parallel=2)
    assert outcome.reason is EndReason.STOPPED
    # what was with the model is on record, and the retry is not begun
    retried = "select attempt, verdict from attempts where job_id = 2 order by 1"
    assert site.rows(retried) == [(1, "retry")]
    assert site.rows("select status from jobs where id = 2") == [("queued",)]
    site.notes.on_tokens = lambda _: None
    assert (await site.drain(parallel=2)).tally.all_well
    assert site.rows(retried) == [(1, "retry"), (2, "accept")]
    assert site.rows(STATUSES) == [("done", 5)]


async def test_after_the_second_request_all_attempts_are_dropped(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 4)

    def stop_twice() -> None:
        drains[0].stop.request()
        drains[0].stop.request()

    after(site, 3, stop_twice)
    outcome = await site.drain(["decoding"] * 4, parallel=2)
    assert outcome.reason is EndReason.KILLED
    assert site.rows("select count(*) from attempts") == [(0,)]
    assert site.rows("select count(*) from crashes") == [(0,)]
    assert site.rows(STATUSES) == [("queued", 4)]


async def test_max_jobs_counts_jobs_not_attempts(site: Site) -> None:
    site.submit(*[{**TWO, "n": 2}] * 5)
    outcome = await site.drain(parallel=4, max_jobs=3)
    assert outcome.reason is EndReason.MAX_JOBS
    assert site.rows(STATUSES) == [("done", 3), ("queued", 2)]


async def test_a_model_process_that_has_grown_is_replaced_once_the_slots_are_empty(
    site: Site,
) -> None:
    site.submit(*[TWO] * 4)
    outcome = await site.drain(["decoding"] * 3 + ["answer"], parallel=4, recycle_bytes=500)
    assert outcome.tally.ended == {Status.DONE: 4}
    said = site.notes.said.getvalue()
    # the first turns, and then the second ones
    assert said.count("loading demo") == 2
    assert site.rows("select count(*) from crashes") == [(0,)]


async def test_an_answer_is_written_while_others_keep_the_slots_from_being_filled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit(*[ONE] * 4)
    ended: list[str] = []

    def end(_: Notes, job: ClaimedJob, *__: object) -> None:
        ended.append(job.custom_id)
        if len(ended) == 1:
            # only a cancellation ends the two that decode
            site.cancel("1")

    monkeypatch.setattr(Notes, "job_ended", end)
    # the first answer says that the process is too large, so nothing more begins
    await site.drain(["finishing", "finishing", "answer"], parallel=3, recycle_bytes=500)
    assert ended[0] == "line-3"
    assert site.rows("select status from jobs where id = 3") == [("done",)]


async def test_three_failures_in_a_row_empty_the_slots_and_test_the_model(site: Site) -> None:
    site.submit(*[ONE] * 7)
    script = [*["failing"] * 5, "fault", "answer"]
    outcome = await site.drain(script, parallel=4)
    assert outcome.tally.ended == {Status.FAILED: 6, Status.DONE: 1}
    said = site.notes.said.getvalue()
    assert said.count("jobs in a row failed at the model: sending it a test prompt") == 1
    assert "the model answered, so the jobs are at fault: going on" in said


async def test_an_attempt_that_cannot_be_sent_is_displayed_no_longer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit(*[ONE] * 2)

    async def refuse(*_: object) -> int:
        raise JobError("too long to send")

    monkeypatch.setattr(ModelClient, "begin", refuse)
    outcome = await site.drain(parallel=4)
    assert outcome.tally.ended == {Status.FAILED: 2}
    assert site.notes.began == [("line-1", 1), ("line-2", 1)]
