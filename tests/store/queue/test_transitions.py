"""Every change of `jobs.status` is made in one file, from the table of `jobs/status.py`."""

import re

import pytest
from sqlite_utils import Database

from helpers.paths import ROOT
from helpers.store_samples import DONE, claim, finish_next, lines, model, start, submit
from mh_batch.jobs.record import JobEnd
from mh_batch.jobs.status import MOVES, RETRYABLE, IllegalMove, Status
from mh_batch.store.connection import immediate
from mh_batch.store.lookup import find_target
from mh_batch.store.queue import transitions

RUNNING, FAILED = frozenset({Status.RUNNING}), JobEnd(Status.FAILED, "code", "why")


def statuses(db: Database) -> list[str]:
    return [row[0] for row in db.execute("SELECT status FROM jobs ORDER BY id")]


def test_no_other_file_sets_a_status() -> None:
    sets = re.compile(r"UPDATE\s+jobs\s+SET(?:(?!\bWHERE\b)[^\"])*\bstatus\s*=", re.IGNORECASE)
    found = {
        path.relative_to(ROOT).as_posix()
        for top in ("jobs", "store", "worker", "engine")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".sql") and sets.search(path.read_text())
    }
    assert found == {"store/queue/transitions.py"}


@pytest.mark.parametrize("target", Status)
def test_a_statement_moves_jobs_only_as_the_table_says(db: Database, target: Status) -> None:
    submit(db, lines(len(Status)))
    with immediate(db):
        for job_id, status in enumerate(Status, start=1):
            db.execute("UPDATE jobs SET status = ? WHERE id = ?", (status.value, job_id))
        allowed = [status for status in Status if target in MOVES[status]]
        assert db.execute(transitions.update(target, "round = 0")).rowcount == len(allowed)
    assert statuses(db) == [
        target.value if target in MOVES[status] else status.value for status in Status
    ]


@pytest.mark.parametrize("target", Status)
def test_a_move_that_the_table_forbids_has_no_statement(target: Status) -> None:
    for source in Status:
        if target not in MOVES[source]:
            with pytest.raises(IllegalMove, match=f"{source} cannot become {target}"):
                transitions.update(target, "round = 0", sources=frozenset({source}))


def test_what_somebody_moved_meanwhile_stays_as_it_is(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    finish_next(db, run_id, DONE)
    job = claim(db, run_id)
    with immediate(db):
        assert transitions.release(db, 1) == 0
        assert transitions.cancel_requested(db, 2) == 0
        assert not transitions.requeue(db, 1, RETRYABLE, 1)
        transitions.end(db, job.id, FAILED)
        assert transitions.release(db) == 0
    with immediate(db), pytest.raises(IllegalMove, match="failed cannot become done"):
        transitions.end(db, job.id, DONE)
    assert statuses(db) == ["done", "failed"]


def test_every_statement_finds_its_jobs_by_an_index(db: Database) -> None:
    submit(db, lines(2))
    run_id, seen = start(db), list[str]()
    db.conn.set_trace_callback(seen.append)
    with immediate(db):
        transitions.start(db, 1, model(), run_id)
        for job_id in (1, None):
            transitions.cancel_requested(db, job_id)
            transitions.release(db, job_id)
        transitions.start(db, 1, model(), 1)
        transitions.end(db, 1, FAILED)
        transitions.requeue(db, 1, RETRYABLE, 1)
        for ref in ("night", "line-2"):
            transitions.cancel_running(db, find_target(db, ref))
            transitions.cancel_queued(db, find_target(db, ref), 5)
    db.conn.set_trace_callback(None)
    updates = [sql for sql in seen if sql.startswith("UPDATE jobs")]
    assert len(updates) == 12
    for sql in updates:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
        # all that it holds are the running jobs
        steps = [step for step in steps if step != "SCAN jobs USING INDEX jobs_running"]
        assert not [step for step in steps if step.startswith("SCAN")], f"{steps}\n{sql}"
