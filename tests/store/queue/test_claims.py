"""What is next, in every mix of priorities, models and batches."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import DecodeError
from sqlite_utils import Database

from helpers.store_samples import claim, line, lines, model, start, submit
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import InternalError, ModelChanged, NoModel, StoreUnusable
from mh_batch.jobs.record import JobEnd, JobLine, NewBatch
from mh_batch.jobs.seeds import job_seed
from mh_batch.jobs.settings import Context, Sampling, Settings
from mh_batch.jobs.status import IllegalMove, Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.store.queue.claims import FIRST_OF_MODEL
from mh_batch.store.queue.submit import Submission
from mh_batch.store.sql import statements


def drain(db: Database, default: str | None = "demo", loaded: str | None = None) -> list[str]:
    """Claim everything as a worker does, and return `model:custom_id` in the order taken."""
    run_id = start(db)
    taken = []
    while (needed := queue.next_model(db, default, loaded)) is not None:
        loaded = needed
        job = queue.claim(db, run_id, model(loaded), default)
        assert job is not None
        taken.append(f"{job.model}:{job.custom_id}")
    return taken


def test_a_claim_brings_the_job_as_it_was_submitted(db: Database) -> None:
    request = Request((Message("user", "hi"),), settings={"temperature": 0.0})
    settings = Settings(Sampling(max_tokens=48), seed=9)
    batch_id = submit(db, [JobLine(3, "mine", None, request)], settings=settings)
    run_id = start(db)
    job = claim(db, run_id)
    assert (job.batch_id, job.position, job.custom_id) == (batch_id, 3, "mine")
    assert (job.model, job.request) == ("demo", request)
    assert job.settings == Settings(Sampling(max_tokens=48, temperature=0.0), seed=9)
    assert job.seed == job_seed(9, "mine")
    row = db.table("jobs").get(job.id)
    assert row["started_at"].startswith(job.date)
    assert (row["status"], row["model"], row["model_fingerprint"], row["run_id"]) == (
        *("running", "demo", "f" * 64, run_id),
    )


def test_a_seed_of_the_line_wins_over_that_of_the_batch(db: Database) -> None:
    own = JobLine(1, "mine", None, Request(turns=("x",), settings={"seed": 77}))
    submit(db, [own], settings=Settings(seed=9))
    assert claim(db, start(db)).seed == job_seed(77, "mine")


def test_a_job_whose_settings_clash_with_its_batch_comes_with_the_reason(db: Database) -> None:
    own = [
        JobLine(n, f"job-{n}", None, Request(turns=("x",), settings={"max_kv_size": size}))
        for n, size in ((1, 64), (2, 65))
    ]
    batch = Settings(context=Context(kv_keep=64))
    submit(db, own, settings=batch)
    first, second = claim(db, start(db)), claim(db, start(db))
    assert (str(first.fault), first.settings) == (
        "max_kv_size: must be above kv_keep (64), got 64",
        batch,
    )
    assert (second.fault, second.settings.context.max_kv_size) == (None, 65)


def test_a_row_that_this_version_cannot_read_is_claimed_with_the_fault(db: Database) -> None:
    submit(db, [JobLine(1, "a", None, Request(turns=("x",), settings={"new_one": 1}))])
    submit(db, lines(1))
    db.conn.execute("update jobs set request = '[' where batch_id = 2")
    db.conn.commit()
    run_id = start(db)
    unknown, broken = claim(db, run_id), claim(db, run_id)
    assert isinstance(unknown.fault, InternalError)
    assert "unknown setting new_one" in str(unknown.fault)
    assert isinstance(broken.fault, InternalError)
    assert "msgspec.ValidationError" in str(broken.fault)
    assert isinstance(broken.fault.__cause__, DecodeError)


def test_a_batch_of_another_version_stops_the_claim(db: Database) -> None:
    submit(db, lines(1))
    db.conn.execute("""update batches set settings = '{"sampling": 1}'""")
    db.conn.commit()
    with pytest.raises(StoreUnusable, match="written by another version"):
        claim(db, start(db))
    assert db.table("jobs").get(1)["status"] == "queued"


def test_nothing_queued_is_no_model_and_no_job(db: Database) -> None:
    assert queue.next_model(db, None, None) is None
    assert queue.claim(db, start(db), model(), None) is None


def test_jobs_go_by_priority_then_batch_then_position(db: Database) -> None:
    submit(db, [line(2, "a2"), line(1, "a1")])
    submit(db, [line(1, "b1")], priority=5)
    submit(db, [line(1, "c1"), line(2, "c2")], priority=5)
    submit(db, [line(1, "d1")], priority=-1)
    order = ["b1", "c1", "c2", "a1", "a2", "d1"]
    assert drain(db) == [f"demo:{custom_id}" for custom_id in order]


def test_jobs_of_the_loaded_model_go_first_within_a_batch_only(db: Database) -> None:
    submit(db, [line(1, "a1", "big"), line(2, "a2"), line(3, "a3", "big"), line(4, "a4", "demo")])
    submit(db, [line(1, "b1")])
    loaded_demo = ["demo:a2", "demo:a4", "big:a1", "big:a3", "demo:b1"]
    assert drain(db, "demo", loaded="demo") == loaded_demo


def test_without_a_loaded_model_the_first_position_decides(db: Database) -> None:
    submit(db, [line(1, "a1", "big"), line(2, "a2"), line(3, "a3", "big")])
    assert drain(db, "demo") == ["big:a1", "big:a3", "demo:a2"]


def test_a_job_model_wins_over_the_batch_and_the_batch_over_the_default(db: Database) -> None:
    submit(db, [line(1, "a1"), line(2, "a2", "own")], model="batch's")
    assert drain(db, "default") == ["batch's:a1", "own:a2"]


CHOICES = r"--model: demo to try it, a local folder, or a hub name"


def test_without_any_model_the_choices_are_named_and_nothing_is_claimed(db: Database) -> None:
    submit(db, lines(1))
    with pytest.raises(NoModel, match=CHOICES):
        queue.next_model(db, None, None)
    assert queue.claim(db, start(db), model(), None) is None


def test_a_claim_for_another_model_takes_nothing(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    assert queue.claim(db, run_id, model("other"), "demo") is None
    assert claim(db, run_id).position == 1


def test_the_first_claim_freezes_the_model_of_the_batch(db: Database) -> None:
    batch_id = submit(db, lines(2))
    run_id = start(db)
    claim(db, run_id, "demo")
    assert db.table("batches").get(batch_id)["model"] == "demo"
    assert queue.next_model(db, "another", None) == "demo"
    (frozen,) = db.query("SELECT batch_id, model, fingerprint, adapter FROM batch_models")
    assert tuple(frozen.values()) == (batch_id, "demo", "f" * 64, "harmony")


def test_a_job_with_a_model_of_its_own_freezes_no_default(db: Database) -> None:
    batch_id = submit(db, [line(1, model="own"), line(2)])
    claim(db, start(db), "own")
    assert db.table("batches").get(batch_id)["model"] is None


def test_other_weights_under_the_same_name_stop_the_batch_but_not_a_new_one(db: Database) -> None:
    submit(db, lines(2), name="first")
    run_id = start(db)
    claim(db, run_id)
    changed = model(fingerprint="e" * 64)
    with pytest.raises(ModelChanged, match=r"first.*ffffffffffff.*eeeeeeeeeeee"):
        queue.claim(db, run_id, changed, "demo")
    assert [row["status"] for row in db["jobs"].rows] == ["running", "queued"]
    db.execute("UPDATE jobs SET status = 'cancelled' WHERE status = 'queued'")
    submit(db, lines(1), name="second")
    job = queue.claim(db, run_id, changed, "demo")
    assert job is not None
    assert job.batch_id == 2


def test_a_released_job_is_next_again_on_the_same_model(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    job = claim(db, run_id)
    queue.release(db, job.id)
    assert queue.next_model(db, "another", None) == "demo"
    assert claim(db, run_id) == job
    with pytest.raises(IllegalMove):
        queue.release(db, 2)


def test_recovery_requeues_what_was_running_and_only_that(db: Database) -> None:
    submit(db, lines(4))
    run_id = start(db)
    first, second = claim(db, run_id), claim(db, run_id)
    third = claim(db, run_id)
    queue.finish(db, third.id, JobEnd(Status.FAILED, "code", "why"))
    assert queue.recover(db) == 2
    assert queue.recover(db) == 0
    assert [claim(db, run_id).id for _ in range(3)] == [first.id, second.id, 4]


GROUP = st.tuples(
    st.integers(-1, 1),
    st.sampled_from([None, "m1", "m2"]),
    st.lists(st.sampled_from([None, "m1", "m2", "m3"]), min_size=1, max_size=6),
)


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(groups=st.lists(GROUP, max_size=4), loaded=st.sampled_from([None, "m1", "m3"]))
def test_any_mix_is_drained_in_the_order_of_the_rule(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[tuple[int, str | None, list[str | None]]],
    loaded: str | None,
) -> None:
    db = open_store(tmp_path_factory.mktemp("mix") / "mix.db")
    expected: list[str] = []
    waiting = []
    for batch, (priority, batch_model, models) in enumerate(groups):
        jobs = [line(n, f"{batch}-{n}", own) for n, own in enumerate(models, 1)]
        submit(db, jobs, priority=priority, model=batch_model)
        for n, own in enumerate(models, 1):
            waiting.append((-priority, batch, n, own or batch_model or "m1"))
    now_loaded = loaded
    while waiting:
        group = min(job[:2] for job in waiting)
        mine = [job for job in waiting if job[:2] == group]
        job = min(mine, key=lambda j: (j[3] != now_loaded, j[2]))
        now_loaded = job[3]
        expected.append(f"{job[3]}:{job[1]}-{job[2]}")
        waiting.remove(job)
    assert drain(db, "m1", loaded) == expected
    db.close()


@pytest.mark.parametrize("name", ["heads", "models"])
def test_the_plan_of_a_claim_searches_one_index_and_sorts_nothing(name: str, db: Database) -> None:
    values = {"priority": 0, "batch_id": 1}
    sql = statements("queue/claims.sql")[name].sql
    plan = [row[3] for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    touching_jobs = [step for step in plan if " n " in step]
    assert touching_jobs
    assert all(step.startswith("SEARCH n USING INDEX jobs_queued") for step in touching_jobs)
    assert not [step for step in plan if "TEMP B-TREE" in step or "MATERIALIZE" in step]
    assert not [step for step in plan if step.startswith("SCAN jobs")]


def test_the_plan_of_the_next_job_of_a_model_searches_the_same_index(db: Database) -> None:
    plan = db.conn.execute(f"EXPLAIN QUERY PLAN {FIRST_OF_MODEL}", (0, 1, None)).fetchall()
    assert [row[3] for row in plan] == [
        "SEARCH jobs USING INDEX jobs_queued (priority=? AND batch_id=? AND model=?)"
    ]


def instructions_of_a_claim(db: Database, run_id: int) -> int:
    """Return how much SQLite's machine worked for one claim, in units of 10 instructions."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    db.conn.set_progress_handler(tick, 10)
    claim(db, run_id)
    db.conn.set_progress_handler(None, 10)
    return ticks


def test_a_loading_batch_in_front_costs_a_claim_nothing(path: Path) -> None:
    small, large = open_store(path), open_store(path.with_name("large.db"))
    work = []
    for db, size in ((small, 10), (large, 20_000)):
        submit(db, lines(size))
        front = NewBatch("front", "front.jsonl", Settings(), None, 9)
        with Submission.begin(db, front) as submission:
            submission.add(lines(size))
            work.append(instructions_of_a_claim(db, start(db)))
        db.close()
    # the work is the same but for a deeper tree
    assert work[1] <= 2 * work[0]
    assert work[1] < 200
