"""Jobs whose answers were forced from thoughts that had not ended are counted as they end."""

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.queries import query
from helpers.store_samples import DONE, attempt, claim, lines, start, submit, turn
from mh_batch.jobs.record import AttemptKey, ClaimedJob, CompletedStep, JobEnd, Verdict
from mh_batch.jobs.status import RETRYABLE, Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.store.lookup import find_target
from mh_batch.store.migrations import migrations
from mh_batch.store.queue import cancel_retry
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.reports.query import recipe
from mh_batch.store.reports.timings import timing_report

INCOMPLETE = JobEnd(Status.INCOMPLETE, "length", "ran out")
ENDS = {status: JobEnd(status) for status in (Status.DONE, Status.INCOMPLETE, Status.FAILED)}
# what the totals have to be, from the rows that they are about
COUNTED = """
SELECT b.id, (
    SELECT count(*) FROM jobs AS j WHERE j.batch_id = b.id AND j.status = 'done'
        AND EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1)
) AS rescued
FROM batches AS b ORDER BY b.id
"""


def settled(key: AttemptKey, rescued: bool, complete: bool = True) -> CompletedStep:
    return replace(turn(key, complete), rescued=rescued)


def record(
    db: Database, job: ClaimedJob, run_id: int, key: AttemptKey, end: JobEnd | None, rescued: bool
) -> None:
    made = replace(attempt(key), rescued=rescued, round=job.round)
    complete = end is None or end.status is Status.DONE
    queue.record(db, job.id, run_id, made, settled(key, rescued, complete), end)


def totals(db: Database) -> list[int]:
    """What a status line says, which is what a count of the rows says."""
    found = [report.rescued for report in batch_reports(db, None)]
    assert found == [row[1] for row in db.conn.execute(COUNTED)]
    return found


def test_a_job_counts_that_is_done_with_any_answer_that_was_rescued(db: Database) -> None:
    submit(db, lines(4))
    run_id = start(db)
    record(db, claim(db, run_id), run_id, AttemptKey(), DONE, rescued=False)
    two = claim(db, run_id)
    record(db, two, run_id, AttemptKey(), None, rescued=True)
    assert totals(db) == [0]
    record(db, two, run_id, AttemptKey(turn=2), DONE, rescued=False)
    assert totals(db) == [1]
    record(db, claim(db, run_id), run_id, AttemptKey(), INCOMPLETE, rescued=True)
    several = claim(db, run_id)
    for choice in range(2):
        end = DONE if choice else None
        record(db, several, run_id, AttemptKey(choice=choice), end, rescued=bool(choice))
    assert totals(db) == [2]
    assert [queue.is_rescued(db, job_id) for job_id in (1, 2, 3, 4)] == [False, True, True, True]


def test_a_rescued_answer_that_was_not_kept_does_not_count(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    record(db, job, run_id, AttemptKey(), INCOMPLETE, rescued=True)
    assert cancel_retry.retry(db, find_target(db, "1")) == 1
    job = claim(db, run_id)
    record(db, job, run_id, AttemptKey(attempt=2), DONE, rescued=False)
    assert totals(db) == [0]
    assert not queue.is_rescued(db, job.id)


def test_a_job_that_ends_without_another_attempt_counts_as_well(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    record(db, job, run_id, AttemptKey(), None, rescued=True)
    queue.finish(db, job.id, JobEnd(Status.CANCELLED))
    assert totals(db) == [0]
    cancel_retry.retry(db, find_target(db, "1"))
    queue.finish(db, claim(db, run_id).id, DONE)
    assert totals(db) == [1]


STEP = st.tuples(
    st.sampled_from(["attempt", "end", "finish", "cancel", "retry", "recover"]),
    st.booleans(),
    st.sampled_from(sorted(ENDS)),
)


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEP, max_size=16))
def test_whatever_becomes_of_the_jobs_the_total_is_what_a_count_would_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, Status]]
) -> None:
    with closing(open_store(tmp_path_factory.mktemp("any") / "mh-batch.db")) as db:
        submit(db, lines(2), "one")
        submit(db, lines(1), "two")
        run_id = start(db)
        for step in steps:
            _play(db, run_id, *step)
            totals(db)


def _play(db: Database, run_id: int, what: str, rescued: bool, status: Status) -> None:
    """Do one thing to the job that is running, or to the one that comes next."""
    if what == "cancel":
        cancel_retry.cancel(db, find_target(db, "one"))
    elif what == "retry":
        for name in ("one", "two"):
            cancel_retry.retry(db, find_target(db, name), RETRYABLE)
    elif what == "recover":
        queue.recover(db)
    elif (job_id := _job_in_hand(db, run_id)) is None:
        pass
    elif what == "finish":
        queue.finish(db, job_id, ENDS[status])
    else:
        (made,) = db.query("SELECT count(*) AS n FROM attempts WHERE job_id = ?", [job_id])
        key = AttemptKey(turn=made["n"] + 1)
        kept = replace(attempt(key), rescued=rescued)
        answer = settled(key, rescued, complete=status is not Status.INCOMPLETE)
        queue.record(db, job_id, run_id, kept, answer, ENDS[status] if what == "end" else None)


def _job_in_hand(db: Database, run_id: int) -> int | None:
    """Return the job that is running, else the next one that is queued, `None` without any."""
    for row in db.query("SELECT id FROM jobs WHERE status = 'running'"):
        return int(row["id"])
    return None if queue.next_model(db, "demo", "demo") is None else claim(db, run_id).id


def test_a_status_line_reads_the_total_and_neither_turns_nor_attempts(db: Database) -> None:
    submit(db, lines(1))
    seen: set[str] = set()
    db.conn.set_trace_callback(seen.add)
    batch_reports(db, None)
    db.conn.set_trace_callback(None)
    read = {sql for sql in seen if "SELECT" in sql}
    plans = [row[3] for sql in read for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}")]
    tables = {match[1] for plan in plans if (match := re.match(r"(?:SCAN|SEARCH) (\w+)", plan))}
    assert tables == {"batches", "jobs"}
    assert "SEARCH jobs USING COVERING INDEX jobs_by_status (batch_id=?)" in plans


def test_the_results_say_which_jobs_have_a_rescued_answer(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    record(db, claim(db, run_id), run_id, AttemptKey(), DONE, rescued=True)
    record(db, claim(db, run_id), run_id, AttemptKey(), DONE, rescued=False)
    queue.finish(db, claim(db, run_id).id, JobEnd(Status.FAILED, "prompt_too_long", "too long"))
    rows = db.query("SELECT custom_id, rescued FROM results ORDER BY position")
    assert [row["rescued"] for row in rows] == [1, 0, 0]


def test_the_cookbook_counts_them_where_it_counts_jobs(db: Database, path: Path) -> None:
    submit(db, lines(3))
    db.execute("""UPDATE jobs SET metadata = '{"category": "math"}'""")
    run_id = start(db)
    for rescued in (True, False):
        record(db, claim(db, run_id), run_id, AttemptKey(), DONE, rescued=rescued)
    for name in ("outcomes", "categories"):
        columns, rows = query(path, recipe(name).sql)
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        counts = {row["status"]: (row["jobs"], row["rescued"]) for row in found}
        assert counts == {"done": (2, 1), "queued": (1, 0)}, name
    _, pairs = query(path, recipe("pairs").sql)
    assert [json.loads(str(pair))["rescued"] for (pair,) in pairs] == [True, False]


def test_the_numbers_of_a_night_count_them(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(AttemptKey(), Verdict.RETRY), None, None)
    record(db, job, run_id, AttemptKey(attempt=2), DONE, rescued=True)
    record(db, claim(db, run_id), run_id, AttemptKey(), DONE, rescued=False)
    for batch in (1, None):
        report = timing_report(db, batch)
        assert (report.done, report.rescued) == (2, 1)
        (length,) = report.refusals
        assert (length.next_accepted, length.next_rescued) == (1, 1)
    submit(db, lines(1), "other")
    assert timing_report(db, 2).done == 0


OLDER_ROWS = """
INSERT INTO runs (id, started_at, versions, settings) VALUES (1, '', '{}', '{}');
INSERT INTO batches (id, name, source, state, submitted_at, seed, settings)
VALUES (1, 'old', '-', 'ready', '', 0, '{}'), (2, 'older', '-', 'ready', '', 0, '{}');
INSERT INTO jobs (id, batch_id, position, custom_id, status, request)
VALUES (1, 1, 1, 'a', 'done', '{}'), (2, 1, 2, 'b', 'done', '{}'),
    (3, 1, 3, 'c', 'incomplete', '{}'), (4, 2, 1, 'd', 'done', '{}'),
    (5, 1, 4, 'e', 'done', '{}');
"""
OLDER_TURN = """
INSERT INTO attempts (id, job_id, choice, turn, step, attempt, run_id, verdict, seed, prompt_tokens,
    prompt_sha256, dropped_turns, completion_tokens, finish_reason, stop_reason, started_at,
    finished_at, sampling, tokens, raw)
VALUES (:id, :job, 0, :turn, 0, 1, 1, 'accept', 0, 1, '', 0, 0, 'stop', 'stop_token', '', '',
    '{}', x'', '');
INSERT INTO turns (job_id, choice, turn, step, accepted_attempt_id, attempts, rescued, complete,
    finish_reason)
VALUES (:job, 0, :turn, 0, :id, 1, :rescued, 1, 'stop');
"""


def make_older(path: Path) -> None:
    """Make a database as the version before these totals left it, with jobs that ended."""
    with closing(Database(path)) as db:
        migrations.apply(db, stop_before="m006_rescued")
        db.conn.executescript(OLDER_ROWS)
        turns = [(1, 1, 0), (1, 2, 1), (2, 1, 0), (3, 1, 1), (4, 1, 1), (5, 1, 1), (5, 2, 1)]
        for number, (job, key, rescued) in enumerate(turns, start=1):
            values = {"id": number, "job": job, "turn": key, "rescued": rescued}
            for statement in OLDER_TURN.split(";")[:2]:
                db.conn.execute(statement, values)
        db.conn.commit()


def test_an_older_database_is_counted_once_when_it_is_brought_up_to_date(path: Path) -> None:
    make_older(path)
    with closing(open_store(path)) as db:
        assert totals(db) == [2, 1]
        rows = db.query("SELECT custom_id, rescued FROM results ORDER BY job_id")
        assert [row["rescued"] for row in rows] == [1, 0, 1, 1, 1]
