"""What a look from outside tells of a drain, and what a model's past tells of the next one."""

import msgspec
import pytest
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    finish_next,
    generation,
    line,
    lines,
    model,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.generation import FinishReason
from mh_batch.jobs.record import Attempt, AttemptKey, CompletedStep, Crash, JobEnd, JobLine, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.queue.submit import landed_lines
from mh_batch.store.reports.estimate import throughput_estimate
from mh_batch.store.reports.progress import (
    WINDOW,
    Reason,
    deaths,
    latest,
    latest_stderr_tails,
    reasons,
)

FAILED = JobEnd(Status.FAILED, "prompt_too_long", "too long")


def running_at(db: Database) -> AttemptKey | None:
    running = latest(db).running
    return running[0].key if running else None


def tool_call(key: AttemptKey) -> Attempt:
    called = msgspec.structs.replace(generation(), finish_reason=FinishReason.TOOL_CALLS)
    return msgspec.structs.replace(attempt(key), generation=called)


def test_an_empty_database_has_nothing_to_tell(db: Database) -> None:
    found = latest(db)
    assert (found.run, len(found.running), found.last) == (None, 0, None)
    assert found.pace.jobs == 0


def test_the_job_claimed_first_is_the_running_one(db: Database) -> None:
    submit(db, lines(3))
    run = start(db)
    first = claim(db, run)
    claim(db, run)
    (running,) = latest(db).running
    assert (running.custom_id, running.key) == (first.custom_id, AttemptKey())


def test_as_many_jobs_as_the_batch_has_slots_are_running_and_the_others_are_read_ahead(
    db: Database,
) -> None:
    submit(db, lines(5))
    run = queue.start_run(db, "{}", {}, parallel=1)
    claimed = [queue.claim(db, run, model(), "demo", parallel=3) for _ in range(5)]
    found = latest(db)
    assert [job.custom_id for job in found.running] == [job.custom_id for job in claimed[:3] if job]
    assert found.ahead == 2


def test_a_job_that_is_claimed_ahead_of_the_only_slot_is_not_read_yet(db: Database) -> None:
    submit(db, lines(3))
    run = start(db)
    claim(db, run)
    claim(db, run)
    assert (len(latest(db).running), latest(db).ahead) == (1, 0)


def test_the_running_attempt_is_the_one_after_the_last_recorded(db: Database) -> None:
    request = Request(turns=("a", "b"), n=2)
    submit(db, [JobLine(1, "x", None, request)])
    run = start(db)
    job = claim(db, run)
    queue.record(db, job.id, run, attempt(verdict=Verdict.RETRY), None, None)
    assert running_at(db) == AttemptKey(attempt=2)
    called = tool_call(AttemptKey(attempt=2))
    settled = msgspec.structs.replace(turn(called.key), finish_reason="tool_calls")
    queue.record(db, job.id, run, called, settled, None)
    assert running_at(db) == AttemptKey(step=1)
    queue.record(db, job.id, run, attempt(AttemptKey(step=1)), turn(AttemptKey(step=1)), None)
    assert running_at(db) == AttemptKey(turn=2)
    queue.record(db, job.id, run, attempt(AttemptKey(turn=2)), turn(AttemptKey(turn=2)), None)
    assert running_at(db) == AttemptKey(choice=1)


def test_the_pace_is_that_of_the_latest_run_alone(db: Database) -> None:
    submit(db, lines(5))
    run = start(db)
    finish_next(db, run)
    finish_next(db, run)
    pace = latest(db).pace
    # two jobs between the start of the first and the end of the last; three tokens in half a second
    assert (pace.jobs, pace.seconds, pace.tokens_per_second) == (2, 2.5, 4.0)
    start(db)
    assert latest(db).pace.jobs == 0
    assert latest(db).last is None


def test_the_pace_looks_at_a_bounded_number_of_attempts(db: Database) -> None:
    submit(db, lines(WINDOW + 10))
    run = start(db)
    for _ in range(WINDOW + 10):
        finish_next(db, run)
    assert latest(db).pace.jobs == WINDOW


def test_the_last_attempt_tells_of_memory_and_cache(db: Database) -> None:
    submit(db, lines(1))
    finish_next(db, start(db))
    last = latest(db).last
    assert last is not None
    assert (last.kv_len, last.max_kv_size) == (1500, None)


def test_reasons_are_counted_over_batches_and_the_most_frequent_comes_first(db: Database) -> None:
    run = start(db)
    submit(db, lines(2), "one")
    submit(db, lines(3), "two")
    first = finish_next(db, run, JobEnd(Status.INCOMPLETE, "length", "ran out"))
    too_long = [finish_next(db, run, FAILED) for _ in range(3)]
    finish_next(db, run)
    assert reasons(db, run) == [
        Reason(Status.FAILED, "prompt_too_long", 3, too_long[0].id, too_long[0].custom_id),
        Reason(Status.INCOMPLETE, "length", 1, first.id, first.custom_id),
    ]
    assert reasons(db, start(db)) == []


def test_a_model_s_past_is_its_medians_and_how_often_it_was_asked(db: Database) -> None:
    submit(db, lines(2))
    run = start(db)
    job = claim(db, run)
    timed = msgspec.structs.replace(
        generation().timings, machine_seconds=0.05, prefill_tokens_per_second=200.0
    )
    for number, verdict in ((1, Verdict.RETRY), (2, Verdict.ACCEPT)):
        key = AttemptKey(attempt=number)
        made = msgspec.structs.replace(generation(), timings=timed)
        record = msgspec.structs.replace(attempt(key, verdict), generation=made)
        settled: CompletedStep | None = turn(key) if verdict is Verdict.ACCEPT else None
        queue.record(db, job.id, run, record, settled, None)
    found = throughput_estimate(db, "demo")
    assert found is not None
    assert (found.attempts, found.attempts_per_answer) == (2, 2.0)
    assert (found.tokens_per_second, found.prefill_tokens_per_second) == (40.0, 200.0)
    assert found.completion_tokens == 3


@pytest.mark.parametrize("model", ["demo", "another"])
def test_a_model_without_a_timed_past_has_none(db: Database, model: str) -> None:
    submit(db, lines(1))
    finish_next(db, start(db))  # its timings hold no speed
    assert throughput_estimate(db, model) is None


def test_the_lines_of_a_batch_come_back_in_order(db: Database) -> None:
    given = [line(3, "c", "m"), line(7, "a")]
    batch = submit(db, given)
    assert list(landed_lines(db, batch)) == given


def test_the_speed_of_a_drain_is_that_of_all_slots_together(db: Database) -> None:
    submit(db, lines(2))
    run = start(db)
    for job in (claim(db, run), claim(db, run)):
        queue.record(db, job.id, run, side_by_side(), turn(), DONE)
    found = latest(db)
    assert found.last is not None
    assert (found.pace.tokens_per_second, found.last.tokens_per_second) == (8.0, 8.0)


def test_the_estimate_is_of_the_last_number_of_slots(db: Database) -> None:
    submit(db, lines(3))
    run = start(db)
    for make in (attempt, side_by_side, side_by_side):
        made = make()
        times = msgspec.structs.replace(made.generation.timings, prefill_tokens_per_second=200.0)
        made = msgspec.structs.replace(
            made, generation=msgspec.structs.replace(made.generation, timings=times)
        )
        queue.record(db, claim(db, run).id, run, made, turn(), DONE)
    found = throughput_estimate(db, "demo")
    assert found is not None
    assert (found.parallel, found.attempts, found.tokens_per_second) == (8, 2, 8.0)


def test_a_crash_with_several_attempts_in_it_is_one(db: Database) -> None:
    submit(db, lines(3))
    run = start(db)
    jobs = [claim(db, run).id for _ in range(3)]
    together = Crash(AttemptKey(), "decode", 6, None, "out of memory", alone=False)
    queue.record_crashes(db, run, [(job, together) for job in jobs])
    for signal in (9, 11):
        queue.record_crash(db, jobs[0], run, Crash(AttemptKey(), "decode", signal, None, "alone"))
    assert deaths(db, run) == 3
    assert latest_stderr_tails(db) == ["alone", "alone", "out of memory"]


def test_deaths_of_the_model_are_counted_by_run(db: Database) -> None:
    submit(db, lines(1))
    run = start(db)
    job = claim(db, run)
    queue.record_crash(db, job.id, run, Crash(AttemptKey(), "decode", 9, None, ""))
    assert (deaths(db, run), deaths(db, run + 1)) == (1, 0)
