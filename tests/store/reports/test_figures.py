"""The figures of a queue at one moment."""

import msgspec
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    finish_next,
    lines,
    model,
    start,
    submit,
    turn,
)
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.record import AttemptKey, JobLine, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.reports.figures import Figures, figures_of, latest_batches
from mh_batch.store.reports.progress import ENOUGH_JOBS, WINDOW, Pace, latest


def figures(db: Database, *, working: bool) -> Figures:
    found, reports = latest(db), batch_reports(db, None)
    return figures_of(reports, latest_batches(db, reports, found), found, working=working)


def working(db: Database) -> Figures:
    return figures(db, working=True)


def test_what_is_claimed_ahead_or_left_by_a_dead_worker_is_queued(db: Database) -> None:
    submit(db, lines(4))
    run = start(db)
    claim(db, run)
    claim(db, run)
    assert (len(working(db).running), working(db).queued) == (1, 3)
    (batch,) = working(db).batches
    assert (batch.counts[Status.RUNNING], batch.counts[Status.QUEUED]) == (1, 3)
    dead = figures(db, working=False)
    assert (dead.running, dead.queued, dead.tokens_per_second) == ((), 4, None)


def test_each_open_choice_of_a_job_takes_a_slot(db: Database) -> None:
    choices = [JobLine(n, f"j{n}", None, Request(turns=("a",), n=3)) for n in (1, 2, 3)]
    submit(db, choices)
    run = queue.start_run(db, "{}", {}, parallel=1)
    first, *_ = [queue.claim(db, run, model(), "demo", parallel=4) for _ in range(3)]
    assert first is not None
    # three choices of the first and one of the second are on the model
    assert [job.custom_id for job in working(db).running] == ["j1", "j2"]
    for choice in range(2):
        key = AttemptKey(choice)
        queue.record(db, first.id, run, attempt(key), turn(key), None)
    # one of the first and three of the second
    assert [job.custom_id for job in working(db).running] == ["j1", "j2"]
    assert working(db).ahead == 1


def test_the_batches_are_those_that_are_not_finished_and_those_of_the_run(db: Database) -> None:
    submit(db, lines(1), "before")
    finish_next(db, start(db))
    assert [batch.name for batch in working(db).batches] == ["before"]
    submit(db, lines(1), "now")
    submit(db, lines(1), "next")
    assert [batch.name for batch in working(db).batches] == ["now", "next", "before"]
    finish_next(db, start(db))
    # unfinished ones first; the batch of the run before is over
    assert [batch.name for batch in working(db).batches] == ["next", "now"]


def test_conversations_of_a_hundred_attempts_have_a_pace(db: Database) -> None:
    submit(db, lines(ENOUGH_JOBS + 1))
    run = start(db)
    for _ in range(ENOUGH_JOBS):
        job = claim(db, run)
        for number in range(1, WINDOW // 2):
            key = AttemptKey(attempt=number)
            queue.record(db, job.id, run, attempt(key, Verdict.RETRY), None, None)
        last = AttemptKey(attempt=WINDOW // 2)
        queue.record(db, job.id, run, attempt(last), turn(last), DONE)
    pace = latest(db).pace
    assert pace.jobs == ENOUGH_JOBS
    left = working(db).seconds_left
    assert left == pace.seconds / ENOUGH_JOBS


def test_no_time_is_left_without_a_pace_or_without_a_job(db: Database) -> None:
    submit(db, lines(ENOUGH_JOBS))
    run = start(db)
    for done in range(ENOUGH_JOBS):
        assert working(db).pace.jobs == done
        assert working(db).seconds_left is None
        finish_next(db, run)
    assert working(db).seconds_left is None
    found = msgspec.structs.replace(latest(db), pace=Pace(ENOUGH_JOBS, 30.0, 4.0))
    assert Figures((), found, working=True).seconds_left is None
