"""A drain from claim to record, with a scripted model process on a real database."""

import io
import json
from contextlib import closing
from typing import Any

import pytest
from sqlite_utils import Database

from helpers.drained import ONE, TWO, Notes, Site
from mh_batch.jobs.errors import (
    EnvironmentFault,
    ModelChanged,
    ModelNotLoaded,
    NoModel,
    StoreUnusable,
)
from mh_batch.jobs.record import ClaimedJob
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.store.reports.query import recipe
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio


async def test_every_job_ends_with_its_turns_attempts_channels_and_timings(site: Site) -> None:
    site.submit(ONE, TWO)
    outcome = await site.drain()
    assert (outcome.reason, outcome.tally.all_well) == (EndReason.EMPTY, True)
    assert site.rows("select status from jobs order by id") == [("done",), ("done",)]
    assert site.rows("select count(*) from turns") == [(3,)]
    for table in ("attempts", "timings", "parses"):
        assert site.rows(f"select count(*) from {table}") == [(3,)]
    assert site.rows("select count(*) from channels") == [(6,)]
    assert site.rows("select jobs_done, end_reason, model from runs") == [
        (2, "queue_empty", "demo")
    ]
    assert site.sound()


async def test_a_retry_is_recorded_beside_the_attempt_that_was_taken(site: Site) -> None:
    site.submit(ONE)
    outcome = await site.drain(["malformed", "length", "answer"])
    assert outcome.tally.all_well
    assert site.rows("select attempt, verdict, retry_reason from attempts") == [
        (1, "retry", "malformed"),
        (2, "retry", "length"),
        (3, "accept", None),
    ]
    assert site.rows("select attempts, complete from turns") == [(3, 1)]


async def test_a_job_whose_attempts_run_out_is_incomplete_and_the_queue_goes_on(site: Site) -> None:
    site.submit(ONE, ONE, max_attempts=2)
    outcome = await site.drain(["malformed", "malformed"])
    assert not outcome.tally.all_well
    assert site.rows("select status, error_code from jobs order by id") == [
        ("incomplete", "malformed"),
        ("done", None),
    ]


async def test_a_prompt_that_does_not_fit_fails_its_job_only(site: Site) -> None:
    site.submit(ONE, ONE)
    await site.drain(["too_long"])
    assert site.rows("select status, error_code, error from jobs order by id") == [
        ("failed", "prompt_too_long", "9 tokens do not fit into 5"),
        ("done", None, None),
    ]


async def test_a_death_of_the_model_costs_one_generation_and_no_attempt_number(site: Site) -> None:
    site.submit(TWO)
    outcome = await site.drain(["answer", "die"])
    assert outcome.tally.all_well
    assert site.rows("select turn, attempt from attempts") == [(1, 1), (2, 1)]
    assert site.rows("select turn, attempt, signal, stderr_tail from crashes") == [
        (2, 1, 9, "last words\n")
    ]


async def test_a_death_in_the_second_part_of_an_answer_costs_that_part(site: Site) -> None:
    site.submit(ONE)
    outcome = await site.drain(["length", "die", "answer"])
    assert outcome.tally.all_well
    assert site.rows("select attempt, phase from crashes") == [(2, "decode")]
    first, second = site.rows("select attempt, continues, seed, tokens, opening from attempts")
    assert (first[:2], second[:2]) == ((1, 0), (2, 1))
    assert (second[2], second[4]) == (first[2], first[3])


async def test_deaths_in_the_second_part_count_by_themselves(site: Site) -> None:
    site.submit(ONE, ONE)
    await site.drain(["die", "length", "die", "die"])
    assert site.rows("select attempt from crashes") == [(1,), (2,), (2,)]
    assert site.rows("select status, error_code from jobs order by id") == [
        ("failed", "model_crashed"),
        ("done", None),
    ]


async def test_a_retry_of_a_job_that_was_cut_starts_from_scratch_in_its_new_round(
    site: Site,
) -> None:
    site.submit({**ONE, "max_attempts": 1})
    await site.drain(["length", "length"])
    assert site.retry("1") == 1
    await site.drain(["length", "answer"])
    found = site.rows("select attempt, round, continues, verdict from attempts order by id")
    assert found == [
        *[(1, 0, 0, "retry"), (2, 0, 1, "give_up")],
        *[(3, 1, 0, "retry"), (4, 1, 1, "accept")],
    ]
    assert site.rows("select status from jobs") == [("done",)]


async def test_a_job_that_the_model_does_not_survive_is_failed_and_the_queue_goes_on(
    site: Site,
) -> None:
    site.submit(ONE, ONE)
    await site.drain(["die", "exit"])
    assert site.rows("select status, error_code from jobs order by id") == [
        ("failed", "model_crashed"),
        ("done", None),
    ]
    assert site.rows("select signal, exit_code from crashes") == [(9, None), (None, 5)]


async def test_a_model_that_does_not_load_leaves_the_jobs_queued(site: Site) -> None:
    site.submit(ONE)
    with pytest.raises(ModelNotLoaded, match="missing: no such folder"):
        await site.drain(model="missing")
    assert site.rows("select status from jobs order by id") == [("queued",)]
    assert site.rows("select end_reason from runs") == [("error",)]


async def test_a_model_that_does_not_load_holds_up_nobody_elses_jobs(site: Site) -> None:
    site.submit({"prompt": "x", "model": "missing"}, ONE, ONE)
    with pytest.raises(ModelNotLoaded, match="missing: no such folder"):
        await site.drain()
    assert site.rows("select model, status from jobs order by id") == [
        ("missing", "queued"),
        ("demo", "done"),
        ("demo", "done"),
    ]


async def test_jobs_without_a_model_hold_up_nobody_elses(site: Site) -> None:
    site.submit(ONE, {"prompt": "x", "model": "demo"})
    with pytest.raises(NoModel):
        await site.drain(model=None)
    assert site.rows("select status from jobs order by id") == [("queued",), ("done",)]


async def test_other_weights_under_the_same_name_hold_up_their_batch_only(site: Site) -> None:
    site.submit(ONE, {"prompt": "x", "model": "other"})
    db = Database(site.db_path)
    db.table("batch_models").insert(
        {"batch_id": 1, "model": "demo", "fingerprint": "other weights"}
    )
    db.conn.commit()
    db.close()
    site.submit(ONE)
    with pytest.raises(ModelChanged, match="began with demo"):
        await site.drain()
    assert site.rows("select status from jobs order by id") == [("queued",), ("done",), ("done",)]


async def test_the_next_prompt_is_hinted_at_before_it_is_asked_for(site: Site) -> None:
    site.submit(ONE, ONE, ONE)
    await site.drain()
    log = [json.loads(line) for line in (site.folder / "script.log").read_text().splitlines()]
    asked = [entry["seed"] for entry in log if entry["kind"] == "generate"]
    hinted = [entry["seed"] for entry in log if entry["kind"] == "prepare"]
    assert hinted == asked[1:]
    for seed in hinted:
        kinds = [entry["kind"] for entry in log if entry["seed"] == seed]
        assert kinds == ["prepare", "generate"]


async def test_a_model_process_that_has_grown_is_replaced_between_jobs(site: Site) -> None:
    site.submit(TWO, ONE)
    outcome = await site.drain(recycle_bytes=500)
    assert outcome.tally.all_well
    assert site.notes.said.getvalue().count("starting a new one") == 2
    assert site.notes.said.getvalue().count("loading demo") == 2


async def test_a_store_that_cannot_write_ends_the_drain_and_the_job_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreUnusable("the disk is full")

    site.submit(ONE, ONE)
    monkeypatch.setattr("mh_batch.store.queue.record", full)
    with pytest.raises(StoreUnusable, match="the disk is full"):
        await site.drain()
    assert site.rows("select status from jobs order by id") == [("queued",), ("queued",)]
    assert site.rows("select end_reason from runs") == [("error",)]


async def test_an_output_that_went_away_does_not_end_the_drain(site: Site) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    site.submit(TWO)
    site.notes = Notes(Gone())
    assert (await site.drain(["malformed"])).tally.all_well


async def test_a_drain_without_a_model_names_the_choices(site: Site) -> None:
    site.submit(ONE)
    with pytest.raises(NoModel, match=r"--model: demo .*gpt-oss"):
        await site.drain(model=None)


async def test_a_jobs_own_model_is_loaded_for_it(site: Site) -> None:
    site.submit({"prompt": "x", "model": "other"}, ONE)
    await site.drain()
    assert site.rows("select model from jobs order by id") == [("other",), ("demo",)]


async def test_after_the_first_request_to_stop_the_attempt_is_finished_and_its_retry_waits(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(TWO)
    site.notes.on_tokens = lambda _: drains[0].stop.soon or drains[0].stop.request()
    outcome = await site.drain(["malformed"])
    assert outcome.reason is EndReason.STOPPED
    assert site.rows("select turn, attempt, verdict from attempts") == [(1, 1, "retry")]
    assert site.rows("select status from jobs order by id") == [("queued",)]
    site.notes = Notes()
    assert (await site.drain()).reason is EndReason.EMPTY
    assert site.rows("select turn, attempt from attempts") == [(1, 1), (1, 2), (2, 1)]


async def test_after_the_second_request_the_attempt_is_dropped_and_the_job_queued(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)

    def stop_twice(_: int) -> None:
        drains[0].stop.request()
        drains[0].stop.request()

    site.notes.on_tokens = stop_twice
    outcome = await site.drain(["wait"])
    assert outcome.reason is EndReason.KILLED
    assert site.rows("select count(*) from attempts") == [(0,)]
    assert site.rows("select status from jobs order by id") == [("queued",)]
    assert site.rows("select end_reason from runs") == [("stopped_now",)]


async def test_what_is_told_as_done_is_on_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.submit(ONE, TWO, ONE)
    seen: list[tuple[object, ...]] = []

    def look(_: Notes, job: ClaimedJob, *__: object) -> None:
        # another connection sees nothing but what is committed
        seen.extend(site.rows(f"select status, finished_at > '2' from jobs where id = {job.id}"))

    monkeypatch.setattr(Notes, "job_ended", look)
    await site.drain()
    assert seen == [("done", 1)] * 3
    with closing(open_store(site.db_path)) as db:
        full = 2  # every commit is synced
        assert db.execute("pragma synchronous").fetchone()[0] == full


async def test_a_finished_turn_is_never_generated_again(site: Site, drains: list[Drain]) -> None:
    site.submit({"turns": ["a", "b", "c"]}, ONE)
    site.notes.on_tokens = lambda _: drains[0].stop.request()
    await site.drain()
    site.notes.on_tokens = lambda _: None
    await site.drain(["die", "answer", "die"])
    lines = (site.folder / "script.log").read_text().splitlines()
    asked = [json.loads(line)["seed"] for line in lines if '"generate"' in line]
    finished = [seed for (seed,) in site.rows("select seed from attempts order by id")]
    assert [asked.count(seed) for seed in finished] == [1, 2, 2, 1]


async def test_a_job_left_running_by_a_dead_worker_is_taken_up_again(site: Site) -> None:
    site.submit(ONE)
    db = Database(site.db_path)
    db.conn.execute("update jobs set status = 'running'")
    db.conn.commit()
    db.close()
    await site.drain()
    assert "1 job requeued" in site.notes.said.getvalue()
    assert site.rows("select status from jobs order by id") == [("done",)]


def artifacts(site: Site) -> list[str]:
    """The names of all files that attempts left, under batch and job."""
    logs = site.folder / "logs"
    return sorted(str(path.relative_to(logs)) for path in logs.glob("*/*/*"))


async def test_every_attempt_leaves_its_files_under_its_batch_and_job(site: Site) -> None:
    site.submit({"prompt": "Hi", "custom_id": "../x"}, TWO)
    await site.drain(["malformed"])
    names = artifacts(site)
    assert [n for n in names if "retry.decision" in n] == [
        "1/1/retry.decision.1.1.json",
        "1/1/retry.decision.1.2.json",
        "1/2/retry.decision.1.1.json",
        "1/2/retry.decision.2.1.json",
    ]
    assert len(names) == 7 * 4
    decisions = [
        json.loads((site.folder / "logs" / "1" / "1" / f"retry.decision.1.{n}.json").read_text())
        for n in (1, 2)
    ]
    assert [(d["verdict"], d["reason"], d["attempt"]) for d in decisions] == [
        ("retry", "malformed", 1),
        ("accept", None, 2),
    ]
    assert decisions[0]["guidance"] is None
    assert "well-formed" in decisions[1]["guidance"]
    prompt = site.folder / "logs" / "1" / "1" / "prompt.full.1.1.txt"
    assert prompt.read_text() == "the prompt"


async def test_retries_leaves_files_of_steps_tried_again_only_and_off_leaves_none(
    site: Site,
) -> None:
    site.submit(ONE, ONE)
    await site.drain(["malformed"], artifacts="retries")
    assert {name.rsplit("/", 1)[0] for name in artifacts(site)} == {"1/1"}
    assert len(artifacts(site)) == 7 * 2
    site.submit(ONE)
    await site.drain(artifacts="off")
    assert not (site.folder / "logs" / "2").exists()


async def test_a_disk_that_takes_no_artifact_ends_the_drain_with_the_attempt_unrecorded(
    site: Site,
) -> None:
    site.submit(ONE, ONE)
    (site.folder / "logs" / "1").mkdir(parents=True)
    (site.folder / "logs" / "1" / "1").write_text("a file where the folder would be")
    with pytest.raises(EnvironmentFault, match=r"logs/1/1: the artifacts .* off") as caught:
        await site.drain()
    assert caught.value.exit_code == 3
    assert site.rows("select status from jobs order by id") == [("queued",), ("queued",)]
    assert site.rows("select count(*) from attempts") == [(0,)]
    assert site.rows("select end_reason from runs") == [("error",)]


async def test_an_attempt_is_not_committed_before_its_files_are_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, seen = queue.record, list[int]()

    def looking(*args: Any) -> int:
        seen.append(len(artifacts(site)))
        return record(*args)

    monkeypatch.setattr(queue, "record", looking)
    site.submit(TWO)
    await site.drain()
    assert seen == [7, 14]


async def test_a_job_that_clashes_with_its_batch_is_failed_and_the_queue_goes_on(
    site: Site,
) -> None:
    site.submit({"prompt": "a"}, {"prompt": "b", "max_kv_size": 64}, {"prompt": "c"})
    db = Database(site.db_path)
    with db.conn:
        db.conn.execute("UPDATE batches SET settings = json_set(settings, '$.context.kv_keep', 64)")
    db.close()
    outcome = await site.drain()
    assert outcome.exit_code == 1
    assert site.rows("SELECT status, error_code, error FROM jobs ORDER BY position") == [
        ("done", None, None),
        ("failed", "job_error", "max_kv_size: must be above kv_keep (64), got 64"),
        ("done", None, None),
    ]


async def test_an_answer_without_its_form_is_tried_again_and_one_in_it_is_stored_parsed(
    site: Site,
) -> None:
    schema = {"type": "object", "required": ["name"]}
    site.submit(ONE, response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    outcome = await site.drain(["answer", "half_json", "json"])
    assert outcome.tally.all_well
    assert site.rows(
        "select verdict, retry_reason, problems from attempts join parses on attempt_id = "
        "attempts.id order by attempts.id"
    ) == [
        ("retry", "rejected", '["form_violated"]'),
        ("retry", "incomplete_form", '["truncated","incomplete_form"]'),
        ("accept", None, "[]"),
    ]
    assert site.rows("select json_extract(parsed, '$.name') from results") == [("Ada",)]
    (fields,) = site.rows(recipe("fields").sql)
    assert fields == (1, "b", "name", 1, "text", 1)
