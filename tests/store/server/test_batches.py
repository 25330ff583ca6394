"""Batches of clients as rows: queued once, cancelled or failed before, and listed."""

import json

from sqlite_utils import Database

from helpers.store_samples import claim, finish_next, line, lines, start, submit
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.jobs.status import Status
from mh_batch.store.queue.submit import Submission
from mh_batch.store.server.batches import (
    ApiBatch,
    BatchRef,
    find_api_batch,
    known_models,
    list_api_batches,
    queued_jobs,
    request_cancel,
)
from mh_batch.store.server.files import add_file
from mh_batch.store.server.pending import (
    NewApiBatch,
    add_batch,
    count_pending,
    fail_batch,
    is_pending,
    next_pending,
    settle,
)

CREATED, EXPIRES = "2026-05-01T01:00:00.000Z", "2026-05-02T01:00:00.000Z"


def create(db: Database, metadata: str | None = None, created_at: str = CREATED) -> BatchRef:
    file = add_file(db, "night.jsonl", 5, lambda _: None)
    endpoint = "/v1/chat/completions"
    batch = NewApiBatch(file.id, endpoint, "24h", created_at, EXPIRES, metadata)
    return BatchRef(True, add_batch(db, batch))


def begin(db: Database, ref: BatchRef) -> Submission:
    """Begin to queue a batch of a client."""
    batch = NewBatch("night", "night.jsonl", Settings(), api_batch_id=ref.number)
    return Submission.begin(db, batch)


def queue_it(db: Database, ref: BatchRef, jobs: int = 2) -> int:
    with begin(db, ref) as submission:
        submission.add(lines(jobs))
        submission.publish("0" * 64)
    return submission.batch_id


def find(db: Database, ref: BatchRef) -> ApiBatch:
    batch = find_api_batch(db, ref)
    assert batch is not None
    return batch


def test_a_created_batch_is_as_it_was_asked_for(db: Database) -> None:
    ref = create(db, '{"a": "b"}')
    batch = find(db, ref)
    assert (batch.batch_id, batch.in_progress_at, batch.counts) == (None, None, {})
    assert (batch.created_at, batch.expires_at, batch.metadata) == (CREATED, EXPIRES, '{"a": "b"}')
    pending = next_pending(db)
    assert pending is not None
    assert (pending.id, pending.file_id, pending.filename) == (ref.number, 1, "night.jsonl")


def test_a_batch_that_is_loading_is_not_queued_yet_and_one_that_broke_off_comes_again(
    db: Database,
) -> None:
    ref = create(db)
    with begin(db, ref) as submission:
        submission.add([line(1)])
        assert find(db, ref).batch_id is None
    assert is_pending(db, ref.number)
    assert next_pending(db) is not None


def test_a_batch_that_was_queued_before_its_server_died_is_not_queued_again(db: Database) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref)
    assert find(db, ref).batch_id == batch_id
    assert next_pending(db) is None
    assert not is_pending(db, ref.number)
    assert find(db, ref).counts[Status.QUEUED] == 2


def test_a_number_that_another_batch_took_over_is_not_taken_for_the_own_one(db: Database) -> None:
    ref = create(db)
    with begin(db, ref) as broken:
        broken.add([line(1)])
    assert submit(db, lines(1)) == broken.batch_id
    assert find(db, ref).batch_id is None
    assert next_pending(db) is not None


def test_a_batch_with_a_bad_file_fails_and_waits_no_more(db: Database) -> None:
    ref = create(db)
    assert count_pending(db) == 1
    fail_batch(db, ref.number, json.dumps([{"code": "invalid_file"}]))
    batch = find(db, ref)
    assert batch.failed_at is not None
    assert "invalid_file" in (batch.errors or "")
    assert (count_pending(db), next_pending(db)) == (0, None)


def test_a_batch_that_is_cancelled_before_it_is_queued_never_is(db: Database) -> None:
    ref = create(db)
    assert not request_cancel(db, ref)
    assert find(db, ref).cancelled_at is not None
    assert next_pending(db) is None


def test_a_cancel_that_came_while_a_batch_was_queued_cancels_its_jobs(db: Database) -> None:
    ref = create(db)
    with begin(db, ref) as submission:
        submission.add(lines(2))
        assert not request_cancel(db, ref)
        submission.publish("0" * 64)
    settle(db)
    batch = find(db, ref)
    assert batch.cancelled_at is None
    assert batch.cancelling_at is not None
    assert batch.counts[Status.QUEUED] == 2


def test_a_queued_batch_of_either_kind_can_be_cancelled(db: Database) -> None:
    for ref in (BatchRef(False, submit(db, lines(1))), create(db)):
        if ref.api:
            queue_it(db, ref)
        assert request_cancel(db, ref)
        first = find(db, ref).cancelling_at
        assert first is not None
        assert request_cancel(db, ref)
        assert find(db, ref).cancelling_at == first


def test_batches_of_both_kinds_are_in_one_list_the_latest_first(db: Database) -> None:
    made = [
        BatchRef(False, submit(db, lines(1))),
        create(db, created_at="2026-06-01T00:00:00.000Z"),
    ]
    queue_it(db, made[1])
    made += [create(db, created_at=f"2027-01-0{day}T00:00:00.000Z") for day in (1, 2)]
    # the clock of this test is somewhere between
    newest = sorted((find(db, ref) for ref in made), key=lambda b: b.created_at, reverse=True)
    seen: list[BatchRef] = []
    more = True
    while more:
        found = list_api_batches(db, 2, seen[-1] if seen else None)
        assert found is not None
        page, more = found
        seen += [batch.ref for batch in page]
    assert seen == [batch.ref for batch in newest]
    assert list_api_batches(db, 2, BatchRef(True, 99)) is None


def test_a_batch_that_was_deleted_is_not_found_nor_listed(db: Database) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref)
    settle(db)
    db.conn.execute("DELETE FROM jobs")
    db.conn.execute("DELETE FROM batches WHERE id = ?", (batch_id,))
    assert find_api_batch(db, ref) is None
    assert list_api_batches(db, 10, None) == ([], False)
    assert next_pending(db) is None


def test_a_batch_of_a_client_is_not_found_under_the_number_of_the_command_line(
    db: Database,
) -> None:
    ref = create(db)
    batch_id = queue_it(db, ref)
    assert find_api_batch(db, BatchRef(False, batch_id)) is None


def test_counts_follow_the_jobs(db: Database) -> None:
    ref = BatchRef(False, submit(db, lines(3)))
    run_id = start(db)
    finish_next(db, run_id)
    claim(db, run_id)
    batch = find(db, ref)
    assert (batch.count(Status.DONE), batch.count(Status.RUNNING, Status.QUEUED)) == (1, 2)
    assert (queued_jobs(db, 10), queued_jobs(db, 0)) == (1, 0)
    assert known_models(db) == ["demo"]
