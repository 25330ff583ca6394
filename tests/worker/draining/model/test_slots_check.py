"""A model runs in slots only where a self-test has passed on this machine."""

import json
from contextlib import closing

import pytest

from helpers.drained import ONE, Site
from mh_batch.engine.slots.version import SLOTS_VERSION
from mh_batch.jobs.errors import SlotsRefused
from mh_batch.store.connection import open_store

pytestmark = pytest.mark.anyio


def said(site: Site) -> list[str]:
    return site.notes.said.getvalue().splitlines()


def asked_for(site: Site) -> list[tuple[str, int]]:
    """Which models were tested in how many slots."""
    lines = (site.folder / "script.log").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [(e["model"], e["parallel"]) for e in entries if e["kind"] == "selftest"]


async def test_a_model_is_tested_once_on_a_machine_and_the_verdict_is_recorded(site: Site) -> None:
    site.submit(ONE, ONE)
    assert (await site.drain(parallel=4)).tally.all_well
    site.submit(ONE)
    assert (await site.drain(parallel=4)).tally.all_well
    assert asked_for(site) == [("demo", 4)]
    assert site.rows("select model, parallel, passed, engine from selftests") == [
        ("demo", 4, 1, SLOTS_VERSION)
    ]
    notes = [note for note in said(site) if "testing demo with 4 conversations" in note]
    assert len(notes) == 1


async def test_each_number_of_slots_is_tested_also_one_that_a_batch_began_with(site: Site) -> None:
    site.submit(ONE, ONE)
    await site.drain(parallel=4, max_jobs=1)
    site.submit(ONE)
    await site.drain(parallel=2)
    assert asked_for(site) == [("demo", 4), ("demo", 2)]
    assert site.rows("select parallel from batch_models") == [(4,), (2,)]


async def test_one_conversation_at_a_time_needs_no_test(site: Site) -> None:
    site.submit(ONE)
    await site.drain()
    assert asked_for(site) == []


async def test_a_model_that_fails_the_test_is_refused_and_others_go_on(site: Site) -> None:
    site.submit({**ONE, "model": "variant"}, ONE, {**ONE, "model": "variant"})
    with pytest.raises(SlotsRefused) as refused:
        await site.drain(parallel=4)
    assert refused.value.exit_code == 3
    for part in ("variant", "row 2 differs", "layer 3", "--parallel 1", "--allow-variance"):
        assert part in str(refused.value)
    assert site.rows("select model, status from jobs order by id") == [
        ("variant", "queued"),
        ("demo", "done"),
        ("variant", "queued"),
    ]
    assert site.rows("select passed, failed, layer from selftests where model = 'variant'") == [
        (0, "row 2 differs", 3)
    ]


@pytest.mark.parametrize(("model", "recorded"), [("narrow", []), ("faulty", [(0,)])])
async def test_a_test_that_cannot_be_done_holds_up_that_model_only(
    site: Site, model: str, recorded: list[tuple[int]]
) -> None:
    site.submit({**ONE, "model": model}, ONE)
    with pytest.raises(SlotsRefused, match=f"{model}.*cannot run so.*--parallel 1"):
        await site.drain(parallel=4)
    assert site.rows("select status from jobs order by id") == [("queued",), ("done",)]
    found = f"select passed from selftests where model = '{model}'"
    assert site.rows(found) == recorded


async def test_a_verdict_that_is_on_record_refuses_without_a_test(site: Site) -> None:
    site.submit({**ONE, "model": "variant"})
    for _ in range(2):
        with pytest.raises(SlotsRefused):
            await site.drain(parallel=4)
    assert asked_for(site) == [("variant", 4)]


async def test_what_was_refused_runs_one_at_a_time(site: Site) -> None:
    site.submit({**ONE, "model": "variant"})
    with pytest.raises(SlotsRefused):
        await site.drain(parallel=4)
    assert (await site.drain(parallel=1)).tally.all_well
    assert site.rows("select status from jobs") == [("done",)]
    assert site.rows("select parallel from batch_models") == [(1,)]


async def test_with_variance_allowed_it_runs_and_the_run_says_so(site: Site) -> None:
    site.submit({**ONE, "model": "variant"}, {**ONE, "model": "variant"})
    outcome = await site.drain(parallel=4, allow_variance=True)
    assert outcome.tally.all_well
    assert site.rows("select parallel, allow_variance from runs") == [(4, 1)]
    assert site.rows("select parallel from batch_models") == [(4,)]
    notes = [note for note in said(site) if "--allow-variance" in note]
    assert len(notes) == 1
    assert "row 2 differs" in notes[0]


async def test_a_run_whose_test_passed_has_no_variance(site: Site) -> None:
    site.submit(ONE)
    await site.drain(parallel=4, allow_variance=True)
    assert site.rows("select allow_variance from runs") == [(0,)]


EXPERTS = {**ONE, "model": "experts"}


async def test_more_slots_than_run_on_the_same_kernels_are_used_where_the_test_passes(
    site: Site,
) -> None:
    site.submit(EXPERTS)
    assert (await site.drain(parallel=6)).tally.all_well
    assert asked_for(site) == [("experts", 6)]
    assert site.rows("select parallel from timings") == [(6,)]
    # a batch goes on so with a worker that wants fewer
    site.submit(EXPERTS, EXPERTS)
    await site.drain(parallel=6, max_jobs=1)
    await site.drain(parallel=3)
    assert asked_for(site) == [("experts", 6)]
    assert site.rows("select distinct parallel from timings") == [(6,)]


async def test_more_slots_than_run_on_the_same_kernels_are_not_used_where_the_test_fails(
    site: Site,
) -> None:
    site.submit(EXPERTS)
    assert (await site.drain(parallel=8)).tally.all_well
    assert asked_for(site) == [("experts", 8), ("experts", 4)]
    assert site.rows("select parallel from timings") == [(4,)]
    notes = [note for note in said(site) if "at once at most" in note]
    assert len(notes) == 1
    assert "experts runs 4 conversations at once at most: other kernels" in notes[0]
    assert "the self-test with 8 failed: row 2 differs" in notes[0]


async def test_variance_lets_more_slots_run_than_run_on_the_same_kernels(site: Site) -> None:
    site.submit(EXPERTS)
    assert (await site.drain(parallel=8, allow_variance=True)).tally.all_well
    assert asked_for(site) == [("experts", 8)]
    assert site.rows("select parallel from timings") == [(8,)]
    assert site.rows("select parallel, allow_variance from runs") == [(8, 1)]
    assert sum("--allow-variance" in note for note in said(site)) == 1


async def test_a_death_in_a_test_is_tried_again_and_blames_no_job(site: Site) -> None:
    site.submit({**ONE, "model": "fragile", "max_attempts": 1})
    outcome = await site.drain(parallel=4, max_crashes=1)
    assert outcome.tally.all_well
    assert asked_for(site) == [("fragile", 4), ("fragile", 4)]
    assert site.rows("select phase from crashes") == [("load",)]
    assert any(
        "died while testing slots (--parallel 1 needs no such test)" in note for note in said(site)
    )


async def test_a_later_verdict_replaces_the_refusal(site: Site) -> None:
    site.submit({**ONE, "model": "variant"})
    with pytest.raises(SlotsRefused):
        await site.drain(parallel=4)
    with closing(open_store(site.db_path)) as db, db.conn:
        db.conn.execute("UPDATE selftests SET passed = 1, failed = NULL, layer = NULL")
    assert (await site.drain(parallel=4)).tally.all_well


@pytest.mark.parametrize(
    ("jobs", "model", "parallel", "told"),
    [(21, "gpu", 1, 1), (20, "gpu", 1, 0), (21, "demo", 1, 0), (21, "gpu", 2, 0)],
)
async def test_with_many_jobs_one_at_a_time_on_a_gpu_the_test_is_named_once(
    site: Site, jobs: int, model: str, parallel: int, told: int
) -> None:
    site.submit(*[{**ONE, "model": model}] * jobs)
    await site.drain(parallel=parallel, max_jobs=2)
    notes = [note for note in said(site) if "mh-batch selftest --model" in note]
    assert len(notes) == told
