"""A batch lands whole or not at all, and the worker never waits for it."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlite_utils import Database

from helpers.store_samples import attempt, claim, line, lines, model, start, turn
from helpers.store_samples import submit as submit_all
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.jobs.settings import Sampling, Settings
from mh_batch.store import queue
from mh_batch.store.connection import open_reader, open_store
from mh_batch.store.counts import queue_counts
from mh_batch.store.queue import submit
from mh_batch.store.queue.submit import Submission, purge_abandoned
from mh_batch.store.reports.batches import batch_reports

BATCH = NewBatch("night", "night.jsonl", Settings(Sampling(max_tokens=48), seed=5), "demo", 2)

SUBMITTER = """
import sys
from pathlib import Path
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.store.queue.submit import Submission
db = open_store(Path(sys.argv[1]))
with Submission.begin(db, NewBatch("other", "other.jsonl", Settings())) as submission:
    submission.add([JobLine(n, f"o-{n}", None, Request(turns=("x",))) for n in range(1, 6001)])
    print("loading", flush=True)
    sys.stdin.readline()
    submission.publish("1" * 64)
"""


def start_submitter(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that is half way through a submission until its input brings a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"loading\n"
    return process


def rows(db: Database) -> tuple[int, int]:
    return db["batches"].count, db["jobs"].count


def test_a_published_batch_holds_what_was_submitted(db: Database) -> None:
    metadata = msgspec.Raw(b'{"topic": "sums", "deep": [1.50, {"a": null}]}')
    request = Request((Message("user", "two and two? \u2603 \x00"),), settings={"top_k": 3})
    with Submission.begin(db, BATCH) as submission:
        assert submission.add([JobLine(4, "mine", None, request, metadata)]) == []
        assert submission.publish("abc") == 1
    batch = next(iter(db["batches"].rows))
    assert (batch["name"], batch["source"], batch["source_sha256"]) == (
        *("night", "night.jsonl", "abc"),
    )
    assert (batch["state"], batch["job_count"], batch["seed"]) == ("ready", 1, 5)
    assert msgspec.json.decode(batch["settings"], type=Settings) == BATCH.settings
    job = next(iter(db["jobs"].rows))
    assert (job["position"], job["custom_id"], job["status"]) == (4, "mine", "queued")
    assert (job["priority"], job["model"]) == (2, None)
    assert msgspec.json.decode(job["request"], type=Request) == request
    assert job["metadata"] == bytes(metadata).decode()


def test_a_batch_that_is_loading_is_invisible(db: Database) -> None:
    run_id = start(db)
    with Submission.begin(db, BATCH) as submission:
        submission.add(lines(10))
        assert queue.next_model(db, "demo", None) is None
        assert queue.claim(db, run_id, model(), "demo") is None
        assert batch_reports(db, None) == []
        assert sum(queue_counts(db).values()) == 0
        submission.publish("abc")
    assert queue.next_model(db, None, None) == "demo"
    assert sum(queue_counts(db).values()) == 10


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_submission_that_is_interrupted_leaves_nothing(
    error: type[BaseException], db: Database
) -> None:
    submit_all(db, lines(3), name="kept")
    interrupted = pytest.raises(error)
    with interrupted, Submission.begin(db, BATCH) as submission:
        submission.add(lines(submit.CHUNK_ROWS + 10))
        raise error
    assert rows(db) == (1, 3)
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert db.execute("PRAGMA ignore_check_constraints").fetchone()[0] == 0


def test_a_block_that_forgets_to_publish_leaves_nothing(db: Database) -> None:
    with Submission.begin(db, BATCH) as submission:
        submission.add(lines(3))
    assert rows(db) == (0, 0)


def test_a_full_disk_in_the_middle_leaves_nothing_and_says_so(db: Database) -> None:
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages + 100}")
    full = pytest.raises(StoreUnusable, match="disk is full")
    with full, Submission.begin(db, BATCH) as submission:
        submission.add(lines(2_000))
        submission.add([line(n) for n in range(2_001, 9_000)])
    db.execute("PRAGMA max_page_count = 1000000")
    purge_abandoned(db)
    assert rows(db) == (0, 0)


def test_duplicates_are_named_with_the_line_that_was_first(db: Database) -> None:
    with Submission.begin(db, BATCH) as submission:
        assert submission.add([line(1, "a"), line(2, "b")]) == []
        bad = submission.add([line(3, "c"), line(4, "a"), line(5, "d"), line(6, "c")])
        assert [b.number for b in bad] == [4, 6]
        assert [b.reason for b in bad] == [
            "custom_id: 'a' is already that of line 1",
            "custom_id: 'c' is already that of line 3",
        ]
        assert submission.publish("abc") == 4
    assert db["jobs"].count == 4


def test_two_batches_may_use_the_same_custom_id(db: Database) -> None:
    submit_all(db, lines(3), name="one")
    submit_all(db, lines(3), name="two")
    assert db["jobs"].count == 6


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(min_size=1, max_size=3, alphabet="ab\u00e9\x00"), max_size=30))
def test_of_any_custom_ids_exactly_the_first_of_each_lands(tmp_path: Path, ids: list[str]) -> None:
    with closing(open_store(tmp_path / "any.db")) as db:
        repeated = [n for n, i in enumerate(ids, 1) if i in ids[: n - 1]]
        with Submission.begin(db, BATCH) as submission:
            bad = submission.add([line(n, i) for n, i in enumerate(ids, 1)])
            assert [b.number for b in bad] == repeated
            assert submission.count == len(set(ids))


def test_a_killed_submitter_is_purged_by_the_next_one(path: Path, db: Database) -> None:
    submitter = start_submitter(path)
    submitter.kill()
    submitter.communicate(timeout=60)
    assert rows(db) == (1, 6000)
    submit_all(db, lines(3))
    assert rows(db) == (1, 3)


def test_a_killed_submitter_is_purged_when_a_worker_starts(path: Path, db: Database) -> None:
    submitter = start_submitter(path)
    submitter.kill()
    submitter.communicate(timeout=60)
    assert queue.recover(db) == 0
    assert rows(db) == (0, 0)


@pytest.mark.parametrize("purge", [purge_abandoned, queue.recover], ids=lambda p: p.__name__)
def test_a_live_submitter_is_not_purged(
    purge: Callable[[Database], int], path: Path, db: Database
) -> None:
    submitter = start_submitter(path)
    assert purge(db) == 0
    submit_all(db, lines(3))
    assert rows(db) == (2, 6003)
    submitter.communicate(b"go\n", timeout=60)
    assert submitter.returncode == 0
    assert [report.total for report in batch_reports(db, None)] == [6000, 3]


def test_a_worker_records_between_the_chunks_of_a_submission(path: Path, db: Database) -> None:
    submit_all(db, lines(20), name="night before")
    run_id = start(db)
    with closing(open_store(path)) as other, Submission.begin(other, BATCH) as submission:
        for number in range(1, 11):
            submission.add([line(number * 1000 + n) for n in range(1000)])
            job = claim(db, run_id)
            queue.record(db, job.id, run_id, attempt(), turn(), None)
            assert job.custom_id == f"line-{number}"
    with closing(open_reader(path)) as reader:
        assert reader["attempts"].count == 10


def test_a_long_sequence_is_written_in_short_transactions(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "CHUNK_ROWS", 10)
    monkeypatch.setattr(submit, "CHUNK_BYTES", 2_000)
    written: list[str] = []
    with Submission.begin(db, BATCH) as submission:
        db.conn.set_trace_callback(written.append)
        submission.add(lines(25))
        submission.add(
            [JobLine(n, f"big-{n}", None, Request(turns=("x" * 1500,))) for n in (1, 2, 3)]
        )
        db.conn.set_trace_callback(None)
        assert submission.publish("abc") == 28
    assert written.count("BEGIN IMMEDIATE") == written.count("COMMIT") == 5
