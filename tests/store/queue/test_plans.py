"""What the worker asks for each job is found by an index, however long the queue is."""

import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import DONE, attempt, line, model, start, submit, turn
from mh_batch.jobs.errors import NoModel
from mh_batch.jobs.record import AttemptKey, Crash, JobEnd, SkippedModels, Verdict
from mh_batch.jobs.selftest import SelftestKey
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store

# what the recursion of the two statements of `claims.sql` has found: a row a group or model
SMALL = {"heads", "h", "models", "m", "CONSTANT"}
SCAN = re.compile(r"SCAN (\w+)")


def play(db: Database, run_id: int) -> None:
    """Do everything that a drain does to the queue for its jobs, in every way they may end."""
    demo = model()
    assert queue.next_model(db, "demo", None) == "demo"
    assert queue.next_model(db, None, "other", SkippedModels(frozenset({"none"}))) == "demo"
    first = queue.claim(db, run_id, demo, "demo")
    assert first is not None
    queue.read_history(db, first.id)
    queue.record(db, first.id, run_id, attempt(verdict=Verdict.RETRY), None, None)
    crash = Crash(AttemptKey(attempt=2), "generate", 9, None, "")
    queue.record_crash(db, first.id, run_id, crash)
    queue.crashes_on(db, first.id, crash.key)
    queue.shared_crashes_on(db, first.id, crash.key)
    queue.limit_rows(db, run_id, 1)
    queue.last_selftest(db, SelftestKey("cpu", {}, "f" * 64, 8, "1"))
    kept = replace(turn(AttemptKey(attempt=2)), rescued=True)
    queue.record(db, first.id, run_id, attempt(AttemptKey(attempt=2)), kept, DONE)
    queue.read_history(db, first.id)
    second = queue.claim(db, run_id, demo, None, SkippedModels(frozenset({"none"})))
    assert second is not None
    queue.release(db, second.id)
    again = queue.claim(db, run_id, demo, "demo")
    assert again == second
    queue.finish(db, second.id, JobEnd(Status.FAILED, "code", "why"))
    # the next job needs another model
    assert queue.next_model(db, None, "demo") == "big"
    assert queue.claim(db, run_id, model("big"), None) is not None
    with pytest.raises(NoModel):
        queue.next_model(db, None, "demo")


@pytest.fixture(scope="module")
def statements(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, set[str]]]:
    """Every statement that ran while jobs went through a queue, with its values in it."""
    db = open_store(tmp_path_factory.mktemp("plans") / "mh-batch.db")
    submit(db, [line(1), line(2), line(3, model="big")], priority=1, model="demo")
    submit(db, [line(1)])
    seen: set[str] = set()
    run_id = start(db)
    db.conn.set_trace_callback(seen.add)
    play(db, run_id)
    db.conn.set_trace_callback(None)
    yield db, {sql for sql in seen if re.match(r"\s*(--.*\n)*\s*(SELECT|WITH|UPDATE|INSERT)", sql)}
    db.close()


def plan(db: Database, sql: str) -> list[str]:
    return [row[3] for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}")]


def test_the_statements_of_a_job_were_seen(statements: tuple[Database, set[str]]) -> None:
    _, seen = statements
    for part in (
        "WITH RECURSIVE heads",
        "WITH RECURSIVE models",
        "UPDATE jobs SET status = 'running'",
        "UPDATE jobs SET status = 'queued'",
        "UPDATE jobs SET status = 'done'",
        *("UPDATE batches\nSET attempts", "UPDATE batches SET rescued"),
        *("INSERT INTO attempts", "INSERT INTO turns", "INSERT INTO parses"),
        *("INSERT INTO channels", "INSERT INTO timings", "INSERT INTO crashes"),
        *("UPDATE batch_models SET begun", "INSERT INTO batch_models", "FROM batch_models"),
        *("SELECT count(*) FROM crashes", "FROM selftests"),
    ):
        assert any(part in sql for sql in seen), part


def test_no_statement_walks_a_table_or_sorts(statements: tuple[Database, set[str]]) -> None:
    db, seen = statements
    for sql in seen:
        for step in plan(db, sql):
            assert "TEMP B-TREE" not in step, sql
            scanned = SCAN.match(step)
            assert scanned is None or scanned[1] in SMALL, f"{step}\n{sql}"


def test_a_walk_would_be_seen(db: Database) -> None:
    steps = plan(db, "SELECT * FROM jobs WHERE error = 'x' ORDER BY custom_id")
    assert [SCAN.match(step) is not None for step in steps] == [True, False]
    assert "TEMP B-TREE" in steps[1]
