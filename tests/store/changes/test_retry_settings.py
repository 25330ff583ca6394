"""Other settings for what is tried again: checked, stored with the job, and on record."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import attempt, claim, finish_next, line, lines, start, submit, turn
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.errors import InputError, SettingsError
from mh_batch.jobs.record import AttemptKey, JobEnd, JobLine, Verdict
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import RETRYABLE, Status
from mh_batch.store import queue
from mh_batch.store.changes.retry_settings import retry, retry_changes, typed
from mh_batch.store.lookup import find_target, find_targets
from mh_batch.worker.submission.output_check import CHECKS

INCOMPLETE = JobEnd(Status.INCOMPLETE, "length", "ran out")
FORM = {"type": "json_object"}


def own(number: int, **settings: Any) -> JobLine:
    """A line with settings of its own."""
    return replace(line(number), request=Request(turns=("a", "b"), settings=settings))


def again(db: Database, ref: str, **values: Any) -> int:
    (count,) = retry(db, [find_target(db, ref)], RETRYABLE, typed(values), CHECKS)
    return count


def end_all(db: Database, run_id: int, count: int) -> None:
    for _ in range(count):
        queue.finish(db, claim(db, run_id).id, INCOMPLETE)


def test_the_next_claims_have_the_new_settings_and_the_change_is_on_record(db: Database) -> None:
    submit(db, [own(1, max_tokens=48, temperature=0.5), line(2)], settings=Settings(seed=3))
    run_id = start(db)
    before = [claim(db, run_id), claim(db, run_id)]
    for job in before:
        queue.finish(db, job.id, INCOMPLETE)
    assert again(db, "night", max_tokens=8192) == 2
    after = [claim(db, run_id), claim(db, run_id)]
    assert [job.settings.sampling.max_tokens for job in after] == [8192, 8192]
    assert [job.settings.sampling.temperature for job in after] == [0.5, 1.0]
    assert [job.seed for job in after] == [job.seed for job in before]
    # a worker that died is followed by one that reads the same
    queue.release(db, after[0].id)
    assert claim(db, run_id) == after[0]
    (first,), (second,) = retry_changes(db, 1), retry_changes(db, 2)
    assert (first.round, first.settings, first.before) == (
        1,
        {"max_tokens": 8192},
        {"max_tokens": 48},
    )
    assert second.before == {"max_tokens": 4096}


def test_each_retry_goes_on_from_the_one_before(db: Database) -> None:
    submit(db, [own(1)])
    run_id = start(db)
    end_all(db, run_id, 1)
    again(db, "night", max_tokens=100, stop=["x"])
    end_all(db, run_id, 1)
    again(db, "night", temperature=0, max_tokens=200)
    job = claim(db, run_id)
    assert job.settings.sampling == replace(
        Settings().sampling, max_tokens=200, temperature=0.0, stop=("x",)
    )
    first, second = retry_changes(db, 1)
    assert (first.round, first.before) == (1, {"max_tokens": 4096, "stop": []})
    assert (second.round, second.before) == (2, {"temperature": 1.0, "max_tokens": 100})


def test_a_job_that_cannot_have_them_is_named_and_none_is_changed(db: Database) -> None:
    submit(db, [own(1), own(2, response_format=FORM)])
    run_id = start(db)
    end_all(db, run_id, 2)
    with pytest.raises(InputError, match=r"job 2 \(line-2\): stop: does not go with response_f"):
        again(db, "night", stop=["x"])
    assert [row[0] for row in db.execute("select status from jobs")] == [*["incomplete"] * 2]
    assert retry_changes(db, 1) == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"accept": {"json_schema": {"type": "nothing"}}}, "accept: json_schema"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"tool_choice": "required"}, "there are no tools"),
    ],
)
def test_forms_and_checks_are_checked_as_at_submit(
    values: dict[str, Any], told: str, db: Database
) -> None:
    submit(db, [own(1)])
    end_all(db, start(db), 1)
    with pytest.raises(InputError, match=told):
        again(db, "night", **values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"seed": 4}, "seed: stays that of the batch"),
        ({"model": "demo"}, "unknown setting model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_token": 5}, "did you mean max_tokens"),
    ],
)
def test_what_is_no_setting_of_a_retry_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        typed(values)


def test_a_form_takes_the_place_of_the_one_before(db: Database) -> None:
    batch = apply(Settings(), {"response_format": FORM})
    submit(db, [own(1, structured_outputs={"choice": ["a", "b"]})], settings=batch)
    run_id = start(db)
    end_all(db, run_id, 1)
    accept = {"max_chars": 9}
    again(db, "night", response_format=FORM, accept=accept)
    output = claim(db, run_id).settings.output
    assert output == apply(Settings(), {"response_format": FORM, "accept": accept}).output
    (change,) = retry_changes(db, 1)
    assert change.before["response_format"] is None
    assert change.before["structured_outputs"]["choice"] == ["a", "b"]
    assert change.settings["structured_outputs"] is None


def test_a_job_and_its_batch_are_tried_again_once(db: Database) -> None:
    submit(db, lines(2))
    end_all(db, start(db), 2)
    targets = find_targets(db, ["night/line-2", "night", "1"])
    assert [target.label for target in targets] == [find_target(db, "night").label]
    values = typed({"max_tokens": 9})
    assert retry(db, targets, RETRYABLE, values, CHECKS) == [2]
    one_job = find_targets(db, ["night/line-2", "night/line-2"])
    assert [target.job_id for target in one_job] == [2]


def test_answers_that_a_job_keeps_fix_the_form_and_nothing_else(db: Database) -> None:
    submit(db, [own(1)])
    run_id = start(db)
    job = claim(db, run_id)
    second = AttemptKey(turn=2)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    bad = attempt(second, Verdict.GIVE_UP)
    queue.record(db, job.id, run_id, bad, turn(second, False), INCOMPLETE)
    with pytest.raises(InputError, match="response_format: answers that it keeps"):
        again(db, "night", response_format=FORM)
    assert again(db, "night", max_tokens=9) == 1


def test_a_job_that_is_not_tried_again_is_refused_and_left_out_of_its_batch(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    finish_next(db, run_id)
    end_all(db, run_id, 1)
    for ref, status in (("line-1", "done"), ("line-3", "queued")):
        with pytest.raises(InputError, match=f"is {status}; settings can be changed only of what"):
            again(db, ref, max_tokens=9)
    assert again(db, "night", max_tokens=9) == 1
    stored = [msgspec.json.decode(row[0]) for row in db.execute("select request from jobs")]
    assert [request.get("settings") for request in stored] == [None, {"max_tokens": 9}, None]


def test_typed_settings_are_read_as_on_a_command_line() -> None:
    text = {"max_tokens": "48", "response_format": '{"type": "json_object"}', "logit_bias": "{}"}
    assert typed(text, text=True) == {
        "max_tokens": 48,
        "response_format": {"type": "json_object", "json_schema": None},
        "logit_bias": {},
    }
