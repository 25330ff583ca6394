"""`results`, `status`, `cancel` and `retry` of a Python program."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.store_samples import attempt, claim, finish_next, generation, line, start, turn
from helpers.store_samples import submit as land
from mh_batch import Job, cancel, results, retry, status
from mh_batch.jobs.errors import InputError, SettingsError, UnknownTarget
from mh_batch.jobs.generation import FinishReason
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import Status
from mh_batch.store import open_store, queue
from mh_batch.store.changes.archive import archive
from mh_batch.store.lookup import find_batch

INCOMPLETE = JobEnd(Status.INCOMPLETE, "length", "ran out")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Batch `a` has a job with JSON for an answer and one that is cut, batch `b` one more."""
    path = tmp_path / "mh-batch.db"
    with closing(open_store(path)) as store:
        about = msgspec.Raw(b'{"topic": "sums", "k": 1.5, "deep": [{"x": null}]}')
        jobs = [msgspec.structs.replace(line(1), metadata=about), line(2)]
        land(store, jobs, "a")
        land(store, [line(1)], "b")
        run_id = start(store)
        job = claim(store, run_id)
        said = msgspec.structs.replace(turn(), final='{"x": 1e999}', parsed='{"x": 1}')
        queue.record(store, job.id, run_id, attempt(), said, JobEnd(Status.DONE))
        job = claim(store, run_id)
        made = msgspec.structs.replace(generation(), finish_reason=FinishReason.LENGTH)
        cut = msgspec.structs.replace(attempt(), generation=made)
        said = msgspec.structs.replace(turn(), finish_reason="length")
        queue.record(store, job.id, run_id, cut, said, INCOMPLETE)
        finish_next(store, run_id)
    return path


def names(db: Path, *batch: Any, **chosen: Any) -> list[tuple[str, str]]:
    return [(job.batch, job.custom_id) for job in results(db, *batch, **chosen)]


def test_results_are_of_one_batch_or_of_several_in_their_order(db: Path) -> None:
    assert names(db) == [("b", "line-1")]
    assert names(db, ["b", 1]) == [("b", "line-1"), ("a", "line-1"), ("a", "line-2")]
    assert names(db, 1, finish_reasons=["length"]) == [("a", "line-2")]
    assert names(db, 1, where={"topic": "sums", "k": 1.5}) == [("a", "line-1")]
    assert names(db, 1, where={"topic": "tales"}) == []
    with pytest.raises(UnknownTarget, match="'c'"):
        results(db, ["a", "c"])
    with pytest.raises(InputError, match="finish_reasons= late: must be one of"):
        results(db, finish_reasons=["late"])


def plain(value: object) -> bool:
    """Whether a value is one that a program without our classes knows."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(map(plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) is list and all(map(plain, value))
    return type(value) in (str, int, float, bool, type(None))


def test_a_job_as_a_dictionary_has_plain_values_only(db: Path) -> None:
    first, second = (job.to_dict() for job in results(db, "a"))
    assert plain(first)
    assert json.loads(json.dumps(first)) == first
    assert first["metadata"] == {"topic": "sums", "k": 1.5, "deep": [{"x": None}]}
    assert second["metadata"] == {}
    assert (first["parsed"], first["turns"][0]["parsed"]) == ({"x": 1}, {"x": 1})
    assert (second["parsed"], second["final"], second["rescued"]) == (None, "four", False)
    assert set(Job.__struct_fields__) | {"final", "parsed", "rescued"} == first.keys()
    assert (first["turns"][0]["turn"], first["turns"][0]["step"]) == (1, 0)


def test_status_counts_the_jobs_of_each_batch_in_the_lists(db: Path) -> None:
    a, b = status(db)
    assert (a.name, a.total, a.counts[Status.DONE], a.counts[Status.INCOMPLETE]) == ("a", 2, 1, 1)
    assert status(db, "b") == [b]
    with closing(open_store(db)) as store:
        archive(store, [find_batch(store, "b")])
    assert [report.name for report in status(db)] == ["a"]
    assert [report.name for report in status(db, archived=True)] == ["a", "b"]


def test_jobs_are_tried_again_with_other_settings_and_cancelled(db: Path) -> None:
    with pytest.raises(InputError, match="is done; settings can be changed only"):
        retry(db, ["a", "b/line-1"], settings={"max_tokens": 99})
    with pytest.raises(SettingsError, match="did you mean max_tokens"):
        retry(db, "a", settings={"max_token": 99})
    with pytest.raises(InputError, match="statuses done: must be one of"):
        retry(db, "a", statuses=["done"])
    assert retry(db, "a", statuses=["failed"]) == 0
    assert retry(db, "a", settings={"max_tokens": 99}) == 1
    done = cancel(db, ["a/line-2"])
    assert (done.at_once, done.asked) == (1, 0)
    assert retry(db, 2) == 0
    assert retry(db, "1/2") == 1
    with closing(open_store(db)) as store:
        again = claim(store, start(store))
    assert (again.round, again.settings.sampling.max_tokens) == (2, 99)
    with pytest.raises(UnknownTarget, match="nobody"):
        cancel(db, ["a", "nobody"])
