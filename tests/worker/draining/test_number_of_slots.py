"""A batch keeps the number of slots that it began with."""

from contextlib import closing

import pytest

from helpers.drained import ONE, Site
from mh_batch.jobs.status import Status
from mh_batch.store.connection import open_reader
from mh_batch.store.lookup import latest_batch
from mh_batch.store.reports.batch_page import batch_page
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

BY_SLOTS = "select parallel, count(*) from timings group by 1 order by 1"


@pytest.mark.parametrize("parallel", [1, 2])
async def test_a_batch_that_began_with_four_goes_on_with_four(site: Site, parallel: int) -> None:
    site.submit(*[ONE] * 9)
    await site.drain(parallel=4, max_jobs=2)
    site.notes.began = []
    outcome = await site.drain(["decoding"] * 5, parallel=parallel)
    assert outcome.tally.ended == {Status.DONE: 7}
    assert max(open for _, open in site.notes.began) == 6
    assert site.rows(BY_SLOTS) == [(4, 9)]
    said = site.notes.said.getvalue()
    assert said.count("batch 1 began with 4 conversations at once and goes on so") == 1


async def test_a_batch_that_began_alone_goes_on_alone(site: Site) -> None:
    site.submit(*[ONE] * 4)
    await site.drain(max_jobs=2)
    site.notes.began = []
    await site.drain(parallel=4)
    assert {open for _, open in site.notes.began} == {1}
    assert site.rows(BY_SLOTS) == [(1, 4)]
    assert "batch 1 began with 1 conversation at once" in site.notes.said.getvalue()


async def test_mixed_it_takes_the_new_number_which_is_recorded_and_said_once(site: Site) -> None:
    site.submit(*[ONE] * 9)
    await site.drain(parallel=4, max_jobs=2)
    site.notes.began = []
    await site.drain(["decoding"] * 3, parallel=2, mix=True)
    assert max(open for _, open in site.notes.began) == 4
    assert site.rows(BY_SLOTS) == [(2, 7), (4, 2)]
    said = site.notes.said.getvalue()
    assert said.count("batch 1 began with 4 conversations at once; goes on with 2, as --mix") == 1
    assert said.count("began with") == 1
    with closing(open_reader(site.db_path)) as reader:
        page = batch_page(reader, latest_batch(reader))
    assert [one.parallel for one in page.slots] == [4, 2]


async def test_a_batch_without_an_attempt_takes_the_new_number(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 4)
    site.notes.on_tokens = lambda _: [drains[0].stop.request() for _ in range(2)]
    await site.drain(["decoding"] * 4, parallel=4)
    site.notes.on_tokens = lambda _: None
    await site.drain(parallel=2)
    assert site.rows(BY_SLOTS) == [(2, 4)]
    assert "began with" not in site.notes.said.getvalue()


async def test_the_slots_are_empty_before_a_batch_with_another_number_begins(site: Site) -> None:
    site.submit(*[ONE] * 6)
    await site.drain(parallel=4, max_jobs=2)
    site.notes.began = []
    site.submit(*[ONE] * 5)
    await site.drain(parallel=2)
    assert [open for _, open in site.notes.began] == [1, 2, 3, 4, 1, 2, 3, 4, 4]
    assert site.rows(BY_SLOTS) == [(2, 5), (4, 6)]


async def test_the_slots_are_empty_before_a_batch_that_runs_alone_begins(site: Site) -> None:
    site.submit(*[ONE] * 4)
    await site.drain(max_jobs=1)
    site.submit(*[ONE] * 3)
    site.submit(*[ONE] * 2)
    site.notes.began = []
    await site.drain(parallel=3)
    assert [open for _, open in site.notes.began] == [1, 1, 1, 1, 2, 3, 4, 5]
    assert site.rows(BY_SLOTS) == [(1, 4), (3, 5)]


async def test_the_slots_are_empty_before_another_model_is_loaded(site: Site) -> None:
    site.submit(*[ONE] * 2, *[{**ONE, "model": "other"}] * 3)
    outcome = await site.drain(["decoding", "answer", "decoding", "decoding"], parallel=4)
    assert outcome.tally.ended == {Status.DONE: 5}
    assert [open for _, open in site.notes.began] == [1, 2, 1, 2, 3]
    assert site.rows("select model, parallel from batch_models order by model") == [
        ("demo", 4),
        ("other", 4),
    ]


async def test_new_work_begins_beside_what_is_with_the_model(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 2)

    def submit_more(_: int) -> None:
        if len(site.notes.began) == 2 and len(site.rows("select 1 from jobs")) == 2:
            site.submit(ONE)

    def stop_idle(text: str) -> None:
        if "waiting for new work" in text:
            drains[0].stop.request()

    site.notes.on_tokens, site.notes.on_note = submit_more, stop_idle
    outcome = await site.drain(["decoding", "decoding", "answer"], parallel=4, watch=True)
    assert outcome.reason is EndReason.IDLE
    assert site.notes.began == [("line-1", 1), ("line-2", 2), ("line-1", 3)]
    assert outcome.tally.ended == {Status.DONE: 3}


async def test_a_worker_that_waits_says_so_each_time_the_queue_is_empty(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(*[ONE] * 3)

    def submit_once(text: str) -> None:
        if "waiting for new work" not in text:
            return
        if len(site.rows("select 1 from jobs")) == 3:
            site.submit(ONE)
        else:
            drains[0].stop.request()

    site.notes.on_note = submit_once
    outcome = await site.drain(parallel=4, watch=True)
    assert outcome.tally.ended == {Status.DONE: 4}
    assert site.notes.said.getvalue().count("waiting for new work") == 2
