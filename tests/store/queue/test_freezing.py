"""A batch keeps the number of slots that it began with."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import attempt, line, lines, model, start, submit
from mh_batch.jobs.errors import ModelChanged
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import ClaimedJob, Verdict
from mh_batch.store import queue

DEMO = model()


def claim(db: Database, parallel: int, **how: Any) -> ClaimedJob | None:
    return queue.claim(db, 1, DEMO, "demo", parallel=parallel, **how)


def slots(db: Database, parallel: int, **how: Any) -> int:
    """Claim a job that there must be; return in how many slots it decodes."""
    job = claim(db, parallel, **how)
    assert job is not None
    return job.parallel


def claim_and_record(db: Database, parallel: int, info: ModelInfo = DEMO) -> ClaimedJob:
    """Claim a job and record an attempt of it, so that its batch has begun on that model."""
    job = queue.claim(db, 1, info, "demo", parallel=parallel)
    assert job is not None
    queue.record(db, job.id, 1, attempt(verdict=Verdict.RETRY), None, None)
    return job


def frozen(db: Database) -> dict[str, Any]:
    (row,) = db["batch_models"].rows
    return row


@pytest.fixture
def night(db: Database) -> Database:
    """Four jobs of one batch, and a worker."""
    submit(db, lines(4))
    assert start(db) == 1
    return db


def test_the_first_claim_takes_and_stores_the_value_of_the_worker(night: Database) -> None:
    assert slots(night, 8) == 8
    row = frozen(night)
    assert (row["parallel"], row["begun"]) == (8, 0)
    assert (row["device"], json.loads(row["versions"])) == (DEMO.device, DEMO.versions)


def test_a_worker_that_says_nothing_has_one_slot(night: Database) -> None:
    job = queue.claim(night, 1, DEMO, "demo")
    assert job is not None
    assert (job.parallel, frozen(night)["parallel"]) == (1, 1)


def test_a_batch_with_a_recorded_attempt_goes_on_with_its_own_value(night: Database) -> None:
    assert claim_and_record(night, 8).parallel == 8
    assert [slots(night, 2), slots(night, 1), slots(night, 8)] == [8, 8, 8]
    assert frozen(night)["parallel"] == 8


def test_a_batch_without_a_recorded_attempt_takes_the_value_of_the_worker_anew(
    night: Database,
) -> None:
    job = claim(night, 8)
    assert job is not None
    queue.release(night, job.id)
    assert slots(night, 2) == 2
    assert frozen(night)["parallel"] == 2


def test_device_and_versions_are_those_that_a_batch_began_with(night: Database) -> None:
    claim(night, 8)
    other = replace(DEMO, device="gpu", versions={"mlx": "2.0"})
    claim_and_record(night, 8, other)
    assert slots(night, 8) == 8
    row = frozen(night)
    assert (row["device"], json.loads(row["versions"])) == ("gpu", {"mlx": "2.0"})


def test_each_model_of_a_batch_has_its_own_value(db: Database) -> None:
    submit(db, [line(1), line(2), line(3, model="big"), line(4, model="big")])
    start(db)
    claim_and_record(db, 8)
    assert slots(db, 2) == 8
    big = queue.claim(db, 1, model("big"), "demo", parallel=2)
    assert big is not None
    assert big.parallel == 2
    # the attempt on the other model does not fix this one's
    again = queue.claim(db, 1, model("big"), "demo", parallel=4)
    assert again is not None
    assert again.parallel == 4


def test_to_mix_replaces_the_value_of_a_batch_that_has_begun(night: Database) -> None:
    claim_and_record(night, 8)
    mixed, kept = claim(night, 2, mix=True), claim(night, 2, mix=True)
    assert mixed is not None
    assert kept is not None
    assert (mixed.parallel, mixed.mixed_from) == (2, 8)
    assert (kept.parallel, kept.mixed_from) == (2, None)
    assert slots(night, 4) == 2
    assert frozen(night)["device"] == DEMO.device


def test_a_job_for_another_number_of_slots_is_not_taken(night: Database) -> None:
    claim_and_record(night, 8)
    assert claim(night, 2, only=2) is None
    assert [row["status"] for row in night["jobs"].rows] == ["running", *["queued"] * 3]
    assert slots(night, 2, only=8) == 8
    assert claim(night, 2, only=8, mix=True) is None
    assert frozen(night)["parallel"] == 8
    assert slots(night, 2, only=2, mix=True) == 2


def test_a_job_that_is_not_taken_freezes_nothing(night: Database) -> None:
    assert claim(night, 2, only=8) is None
    assert night["batch_models"].count == 0
    assert night.table("batches").get(1)["model"] is None


def test_other_weights_are_told_also_where_the_slots_differ(night: Database) -> None:
    claim_and_record(night, 8)
    with pytest.raises(ModelChanged):
        queue.claim(night, 1, model(fingerprint="e" * 64), "demo", parallel=2, only=2)
