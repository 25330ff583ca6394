"""A model's own sampling defaults fill what nobody set, and stay as the batch began with them."""

import json

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import attempt, line, lines, model, start, submit
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import AlreadySubmitted
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import JobLine, NewBatch, Verdict
from mh_batch.jobs.settings import Sampling, Settings, apply
from mh_batch.store import queue
from mh_batch.store.queue.resubmission import check_resubmission

OWN = replace(model(), defaults={"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1})


def sampling(db: Database, info: ModelInfo = OWN) -> Sampling:
    """The sampling of the next job."""
    job = queue.claim(db, start(db), info, info.name)
    assert job is not None
    return job.settings.sampling


def frozen(db: Database) -> list[object]:
    rows = db.query("SELECT defaults FROM batch_models ORDER BY batch_id, model")
    return [None if row["defaults"] is None else json.loads(row["defaults"]) for row in rows]


def test_they_fill_what_nobody_set_and_a_line_wins_over_all(db: Database) -> None:
    request = Request((Message("user", "hi"),), settings={"top_k": 3})
    settings = apply(Settings(), {"temperature": 1.0, "max_tokens": 9})
    jobs = [line(1), JobLine(2, "own", None, request)]
    submit(db, jobs, settings=settings, given=("max_tokens", "temperature"))
    filled = Sampling(max_tokens=9, temperature=1.0, top_k=20, repetition_penalty=1.1)
    assert sampling(db) == filled
    assert sampling(db) == replace(filled, top_k=3)
    # a temperature that equals the built-in one was given all the same
    assert frozen(db) == [{"top_k": 20, "repetition_penalty": 1.1}]


def test_the_first_claim_fixes_them_whatever_the_model_says_later(db: Database) -> None:
    submit(db, lines(3), given=())
    run_id = start(db)
    job = queue.claim(db, run_id, OWN, "demo")
    assert job is not None
    queue.record(db, job.id, run_id, attempt(verdict=Verdict.RETRY), None, None)
    queue.recover(db)
    other = replace(OWN, defaults={"temperature": 0.1, "min_p": 0.2})
    for _ in range(3):
        assert sampling(db, other) == job.settings.sampling
    assert frozen(db) == [OWN.defaults]


def test_each_model_of_a_batch_brings_its_own(db: Database) -> None:
    submit(db, [line(1, model="a"), line(2, model="b")], given=())
    first = replace(model("a"), defaults={"temperature": 0.2})
    assert sampling(db, first).temperature == 0.2
    assert sampling(db, model("b")).temperature == 1.0
    assert frozen(db) == [{"temperature": 0.2}, {}]


@pytest.mark.parametrize("given", [None, ("defaults",)])
def test_a_batch_of_an_older_version_and_one_that_keeps_ours_are_not_filled(
    db: Database, given: tuple[str, ...] | None
) -> None:
    settings = apply(Settings(), {"defaults": "mh-batch"}) if given else Settings()
    submit(db, lines(1), settings=settings, given=given)
    assert sampling(db) == Sampling()
    assert frozen(db) == [None]


def differences(db: Database, given: tuple[str, ...] | None, **values: object) -> str:
    batch = NewBatch("night", "night.jsonl", apply(Settings(), values), given=given)
    with pytest.raises(AlreadySubmitted) as known:
        check_resubmission(db, "0" * 64, batch)
    assert (known.value.same_batch is None) == ("other settings" in str(known.value))
    return str(known.value).partition("other settings (")[2].partition(");")[0]


def test_the_same_file_with_a_value_given_that_was_left_to_the_model_is_another_batch(
    db: Database,
) -> None:
    submit(db, lines(1), given=())
    assert differences(db, ()) == ""
    assert differences(db, None) == ""
    assert differences(db, ("temperature",)) == "temperature left to the model, now 1.0"
    assert differences(db, ("max_tokens",)) == ""


def test_a_batch_of_an_older_version_is_known_again(db: Database) -> None:
    submit(db, lines(1))
    assert differences(db, ()) == ""
    assert differences(db, ("top_k",), top_k=3) == "top_k 0, now 3"
