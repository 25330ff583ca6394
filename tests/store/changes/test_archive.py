"""Archived batches: out of the lists, with all their rows."""

import pytest
from sqlite_utils import Database

from helpers.store_samples import claim, finish_next, lines, start, submit
from mh_batch.jobs.errors import InputError, UnknownTarget
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store import queue
from mh_batch.store.changes.archive import archive, restore
from mh_batch.store.lookup import find_batch, find_target, latest_batch
from mh_batch.store.queue.cancel_retry import cancel, retry
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.reports.results import finished_jobs

FAILED = JobEnd(Status.FAILED, "model_crashed", "it died")


def test_an_archived_batch_is_in_no_list_and_all_of_it_is_there(db: Database) -> None:
    submit(db, lines(1), "old")
    submit(db, lines(1), "new")
    run_id = start(db)
    finish_next(db, run_id)
    finish_next(db, run_id)
    new = find_batch(db, "new")
    assert archive(db, [new]) == [True]
    assert archive(db, [new]) == [False]
    assert [report.name for report in batch_reports(db, None)] == ["old"]
    assert [r.archived_at is None for r in batch_reports(db, None, archived=True)] == [True, False]
    assert [report.name for report in batch_reports(db, new.id)] == ["new"]
    assert latest_batch(db).name == "old"
    assert find_batch(db, "new") == new
    assert len(list(finished_jobs(db, new.id, list(FINISHED)))) == 1
    assert restore(db, [new]) == [True]
    assert restore(db, [new]) == [False]
    assert latest_batch(db) == new


def test_of_two_batches_with_a_name_the_one_in_the_lists_is_meant(db: Database) -> None:
    for _ in range(2):
        submit(db, lines(1), "night")
    cancel(db, find_target(db, "2"))
    archive(db, [find_batch(db, "2")])
    assert find_batch(db, "night").id == 1
    cancel(db, find_target(db, "1"))
    archive(db, [find_batch(db, "1")])
    assert find_batch(db, "night").id == 2
    with pytest.raises(UnknownTarget, match=r"all are archived; .*status --all"):
        latest_batch(db)


def test_a_batch_with_jobs_left_is_not_archived_and_neither_are_those_beside_it(
    db: Database,
) -> None:
    submit(db, lines(1), "done")
    submit(db, lines(2), "left")
    run_id = start(db)
    finish_next(db, run_id)
    claim(db, run_id)
    with pytest.raises(InputError, match=r"2 of its jobs are queued or running; .*cancel"):
        archive(db, [find_batch(db, "done"), find_batch(db, "left")])
    assert len(batch_reports(db, None)) == 2


def test_a_retry_puts_the_batch_back_into_the_lists(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    for _ in range(2):
        queue.finish(db, claim(db, run_id).id, FAILED)
    archive(db, [find_batch(db, "night")])
    assert retry(db, find_target(db, "night"), {Status.CANCELLED}) == 0
    assert batch_reports(db, None) == []
    assert retry(db, find_target(db, "line-1")) == 1
    assert [report.name for report in batch_reports(db, None)] == ["night"]
