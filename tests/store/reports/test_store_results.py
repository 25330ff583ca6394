"""Results and reports: what the morning shows."""

import tracemalloc
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    finish_next,
    line,
    lines,
    rest,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.errors import UnknownTarget
from mh_batch.jobs.generation import Channel
from mh_batch.jobs.record import AttemptKey, Crash, JobEnd, JobLine, NewBatch, Verdict
from mh_batch.jobs.results.formats import csv_rows
from mh_batch.jobs.settings import Settings
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store import queue
from mh_batch.store.connection import open_reader
from mh_batch.store.counts import COUNTS, queue_counts
from mh_batch.store.lookup import find_batch, find_job, latest_batch
from mh_batch.store.queue.submit import Submission
from mh_batch.store.reports.batch_page import batch_page
from mh_batch.store.reports.batches import batch_reports
from mh_batch.store.reports.results import finished_job, finished_jobs, in_order

INCOMPLETE = JobEnd(Status.INCOMPLETE)
FAILED = JobEnd(Status.FAILED, "prompt_too_long", "too long")


def custom_ids(db: Database, batch_id: int | None, statuses: frozenset[Status]) -> list[str]:
    return [job.custom_id for job in finished_jobs(db, batch_id, sorted(statuses))]


def test_a_finished_job_has_its_request_metadata_and_turns(db: Database) -> None:
    raw = b'{"topic":"sums","n":1.50}'
    request = Request(turns=("two and two?", "and three?"))
    submit(db, [JobLine(7, "mine", None, request, msgspec.Raw(raw))], name="night")
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(AttemptKey(), Verdict.RETRY), None, None)
    queue.record(
        db, job.id, run_id, attempt(AttemptKey(attempt=2)), turn(AttemptKey(attempt=2)), None
    )
    last = AttemptKey(turn=2)
    queue.record(db, job.id, run_id, attempt(last), turn(last, complete=False), INCOMPLETE)
    found = finished_job(db, job.id)
    assert list(finished_jobs(db, None, [Status.INCOMPLETE])) == [found]
    assert (found.id, found.batch, found.custom_id) == (job.id, "night", "mine")
    assert (found.status, found.model, found.request) == (Status.INCOMPLETE, "demo", request)
    assert found.metadata is not None
    assert bytes(found.metadata) == raw
    first, second = found.turns
    assert (first.key, second.key) == (AttemptKey(attempt=2), last)
    assert (first.final, first.prompt_tokens, first.completion_tokens) == ("four", 11, 3)
    assert first.parse == attempt().generation.parse


def test_results_come_in_the_order_of_the_input_whatever_the_order_of_the_end(
    db: Database,
) -> None:
    submit(db, [line(n, f"a{n}") for n in (3, 1, 2, 5, 4)])
    submit(db, [line(1, "b1")], priority=9)
    run_id = start(db)
    for end in (DONE, DONE, FAILED, INCOMPLETE, DONE):
        finish_next(db, run_id, end)
    assert custom_ids(db, None, FINISHED) == ["a1", "a2", "a3", "a4", "b1"]
    assert custom_ids(db, 1, frozenset({Status.DONE})) == ["a1", "a4"]
    assert custom_ids(db, 1, frozenset({Status.FAILED, Status.INCOMPLETE})) == ["a2", "a3"]
    assert custom_ids(db, None, frozenset()) == []


def test_results_are_read_by_index_and_merged_without_a_sort(db: Database) -> None:
    plan = db.conn.execute(
        f"EXPLAIN QUERY PLAN {in_order(3)}", (1, "done", 1, "failed", 1, "incomplete")
    )
    steps = [row[3] for row in plan]
    index = "SEARCH jobs USING COVERING INDEX jobs_by_status (batch_id=? AND status=?)"
    assert steps.count(index) == 3
    assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN jobs")]


def test_results_are_one_state_of_the_database_and_flat_in_memory(path: Path, db: Database) -> None:
    big = [JobLine(n, f"{n}", None, Request(turns=("x" * 20_000,))) for n in range(1, 201)]
    submit(db, big)
    run_id = start(db)
    for _ in range(199):
        finish_next(db, run_id)
    with closing(open_reader(path)) as reader:
        stream = finished_jobs(reader, None, [Status.DONE])
        tracemalloc.start()
        next(stream)
        finish_next(db, run_id)
        assert sum(1 for _ in stream) == 198
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(1 for _ in finished_jobs(reader, None, [Status.DONE])) == 200
    assert peak < 1_000_000


def test_results_left_half_way_free_the_connection(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    finish_next(db, run_id)
    finish_next(db, run_id)
    stream = finished_jobs(db, None, [Status.DONE])
    next(stream)
    assert isinstance(stream, Generator)
    stream.close()
    finish_next(db, run_id)


def test_a_job_of_any_status_can_be_shown(db: Database) -> None:
    submit(db, lines(1))
    assert finished_job(db, 1).status is Status.QUEUED
    with pytest.raises(UnknownTarget, match="no job 2"):
        finished_job(db, 2)


def test_the_results_read_the_current_parse(db: Database) -> None:
    submit(db, lines(1))
    finish_next(db, start(db))
    db.execute("UPDATE parses SET current = 0")
    db.execute(
        "INSERT INTO parses (id, attempt_id, parser_version, rung, well_formed, problems, current)"
        " VALUES (9, 1, 2, 'tolerant', 1, '[]', 1)"
    )
    db.execute("INSERT INTO channels VALUES (9, 1, 0, 'final', NULL, NULL, 'read again')")
    parse = finished_job(db, 1).turns[0].parse
    assert (parse.parser_version, parse.channels) == (2, (Channel("final", "read again"),))


def test_what_a_later_turn_saw_stays_as_it_saw_it(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    last = AttemptKey(turn=2)
    queue.record(db, job.id, run_id, attempt(last), turn(last), DONE)
    db.execute("UPDATE parses SET current = 0")
    db.execute(
        "INSERT INTO parses (id, attempt_id, parser_version, rung, well_formed, problems, current)"
        " VALUES (8, 1, 2, 'tolerant', 1, '[]', 1), (9, 2, 2, 'tolerant', 1, '[]', 1)"
    )
    assert [t.parse.parser_version for t in finished_job(db, job.id).turns] == [1, 2]


def test_a_report_counts_jobs_tokens_speed_and_retries(db: Database) -> None:
    submit(db, lines(4), name="one")
    submit(db, lines(1), name="two")
    run_id = start(db)
    finish_next(db, run_id)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(AttemptKey(), Verdict.RETRY), None, None)
    queue.record(db, job.id, run_id, attempt(AttemptKey(attempt=2)), None, None)
    one, two = batch_reports(db, None)
    assert (one.id, one.name, one.state, one.total) == (1, "one", "ready", 4)
    assert {s: n for s, n in one.counts.items() if n} == {
        **{Status.QUEUED: 2, Status.RUNNING: 1, Status.DONE: 1},
    }
    assert (one.attempts, one.retries, one.completion_tokens) == (3, 1, 9)
    assert one.tokens_per_second == pytest.approx(4.0)
    assert two.tokens_per_second is None
    assert batch_reports(db, 2) == [two]
    assert set(one.counts) == set(Status)
    assert {s: n for s, n in queue_counts(db).items() if n} == {
        **{Status.QUEUED: 3, Status.RUNNING: 1, Status.DONE: 1},
    }


def test_counting_reads_one_index_and_no_job(db: Database) -> None:
    plan = [row[3] for row in db.conn.execute(f"EXPLAIN QUERY PLAN {COUNTS}", (1,))]
    assert plan == ["SEARCH jobs USING COVERING INDEX jobs_by_status (batch_id=?)"]


def test_a_batch_is_found_by_number_or_by_name_the_latest_wins(db: Database) -> None:
    for name in ("convos", "evals", "convos"):
        submit(db, lines(1), name=name)
    assert find_batch(db, "2").name == "evals"
    assert find_batch(db, "convos").id == 3
    assert latest_batch(db).id == 3
    submit(db, lines(1), name="2")
    assert find_batch(db, "2").id == 2
    with Submission.begin(db, NewBatch("convos", "-", Settings())):
        assert find_batch(db, "convos").id == latest_batch(db).id - 1 == 3


def test_an_unknown_batch_is_told_with_names_that_come_near(db: Database) -> None:
    with pytest.raises(UnknownTarget, match="none yet"):
        latest_batch(db)
    with pytest.raises(UnknownTarget, match="none yet"):
        find_batch(db, "convos")
    submit(db, lines(1), name="convos")
    with pytest.raises(UnknownTarget, match="did you mean convos"):
        find_batch(db, "convo")
    for ref in ("7", "zzz", "9" * 40, "\u0663"):
        with pytest.raises(UnknownTarget, match="the latest: convos"):
            find_batch(db, ref)


def test_a_job_is_found_by_number_or_by_custom_id_the_latest_wins(db: Database) -> None:
    submit(db, [line(1, "same"), line(2, "1")])
    submit(db, [line(1, "same")])
    assert find_job(db, "1") == 1
    assert find_job(db, "same") == 3
    with pytest.raises(UnknownTarget, match="no job 'other'"):
        find_job(db, "other")
    with Submission.begin(db, NewBatch("later", "-", Settings())) as submission:
        submission.add([line(1, "hidden")])
        for ref in ("hidden", "4"):
            with pytest.raises(UnknownTarget):
                find_job(db, ref)


def test_the_results_view_has_a_row_a_finished_job(db: Database) -> None:
    submit(db, [JobLine(1, "mine", None, Request(turns=("x",)), msgspec.Raw(b'{"a":1}')), line(2)])
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    second = AttemptKey(turn=2)
    queue.record(db, job.id, run_id, attempt(second), turn(second), DONE)
    queue.finish(db, claim(db, run_id).id, FAILED)
    first, failed = db.query("SELECT * FROM results ORDER BY position")
    assert (first["batch"], first["custom_id"], first["status"]) == ("night", "mine", "done")
    assert (first["final"], first["analysis"], first["finish_reason"]) == ("four", "hm", "stop")
    assert (first["turns"], first["tokens"], first["metadata"]) == (2, 6, '{"a":1}')
    assert first["tokens_per_second"] == pytest.approx(4.0)
    assert (failed["final"], failed["error_code"]) == (None, "prompt_too_long")


def test_an_answer_in_two_parts_counts_each_of_its_tokens_once(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    second = AttemptKey(attempt=2)
    queue.record(db, job.id, run_id, attempt(AttemptKey(), Verdict.RETRY), None, None)
    queue.record(db, job.id, run_id, rest(second), turn(second), DONE)
    (found,) = finished_job(db, job.id).turns
    # the prompt that both have, and what both drew
    assert (found.prompt_tokens, found.completion_tokens, found.opened_tokens) == (11, 5, 3)
    (shown,) = db.query("SELECT * FROM results")
    # its speed is that of the part that was drawn in this attempt: one token behind the first
    assert (shown["tokens"], shown["tokens_per_second"]) == (5, 2.0)
    assert [row["completion_tokens"] for row in db.query("SELECT * FROM attempts")] == [3, 2]
    (report,) = batch_reports(db, None)
    assert (report.attempts, report.retries, report.completion_tokens) == (2, 0, 5)
    (yielded,) = db.query("SELECT * FROM retry_yield")
    assert (yielded["reason"], yielded["continues"], yielded["accepted"]) == ("length", 1, 1)


def test_the_speed_views_add_up_attempts(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(AttemptKey(), Verdict.RETRY), None, None)
    queue.record(
        db, job.id, run_id, attempt(AttemptKey(attempt=2)), turn(AttemptKey(attempt=2)), DONE
    )
    (hour,) = db.query("SELECT * FROM throughput")
    assert (hour["hour"], hour["attempts"], hour["accepted"]) == ("2026-05-01T01:00Z", 2, 1)
    assert (hour["completion_tokens"], hour["tokens_per_second"]) == (6, 4.0)
    (bucket,) = db.query("SELECT * FROM speed_by_context")
    assert (bucket["kv_from"], bucket["kv_to"], bucket["attempts"]) == (1024, 2047, 2)
    (retried,) = db.query("SELECT * FROM retry_yield")
    assert (retried["reason"], retried["attempt"]) == ("length", 2)
    assert (retried["retries"], retried["accepted"], retried["yield"]) == (1, 1, 1.0)


def test_every_speed_is_that_of_the_machine(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    for made in (attempt(), side_by_side()):
        queue.record(db, claim(db, run_id).id, run_id, made, turn(), DONE)
    alone, beside = db.query("SELECT tokens_per_second FROM results ORDER BY position")
    assert (alone["tokens_per_second"], beside["tokens_per_second"]) == (4.0, 8.0)
    (hour,) = db.query("SELECT * FROM throughput")
    assert (hour["decode_seconds"], hour["machine_seconds"]) == (2.5, 0.75)
    assert hour["tokens_per_second"] == pytest.approx(4 / 0.75)
    (bucket,) = db.query("SELECT * FROM speed_by_context")
    (report,) = batch_reports(db, None)
    assert bucket["tokens_per_second"] == report.tokens_per_second == hour["tokens_per_second"]
    rows = [row for job in finished_jobs(db, 1, tuple(FINISHED)) for row in csv_rows(job)]
    assert [row["tokens_per_second"] for row in rows] == [4.0, 8.0]


def test_the_page_of_a_batch_tells_of_slots_and_shared_crashes(db: Database) -> None:
    submit(db, lines(1))
    run_id = queue.start_run(db, "{}", {}, parallel=8)
    queue.allow_variance(db, run_id)
    queue.limit_rows(db, run_id, 4)
    job = claim(db, run_id)
    together = Crash(AttemptKey(), "decode", 6, None, "", alone=False)
    queue.record_crashes(db, run_id, [(job.id, together)])
    queue.record(db, job.id, run_id, side_by_side(), turn(), DONE)
    page = batch_page(db, find_batch(db, "night"))
    (run,), (crash,), (slow,) = page.runs, page.crashes, page.slowest
    assert (run.parallel, run.allow_variance, run.most_rows) == (8, 1, 4)
    assert (crash.alone, slow.model_seconds, slow.tokens_per_second) == (0, 0.25, 8.0)


def test_metadata_that_is_no_json_is_left_out(db: Database) -> None:
    submit(db, [line(1)])
    finish_next(db, start(db))
    db.conn.execute("update jobs set metadata = '{'")
    (job,) = finished_jobs(db, 1, list(FINISHED))
    assert job.metadata is None
