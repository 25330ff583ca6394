"""The numbers of a night: right when counted by hand, few however long it was."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    FIRST,
    attempt,
    claim,
    generation,
    lines,
    rest,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.record import AttemptKey, Verdict
from mh_batch.store import queue
from mh_batch.store.connection import immediate
from mh_batch.store.reports.timings import (
    HOUR,
    MOST_CONTEXT_BINS,
    MOST_TIME_BINS,
    context_width,
    round_seconds,
    time_width,
    timing_report,
)
from mh_batch.store.sql import DECODE_SPEED

replace = msgspec.structs.replace


def finish(
    db: Database, run_id: int, kv_len: int, decode_seconds: float, at: str, queue_seconds: float
) -> None:
    """End the next job with one attempt of three tokens."""
    job = claim(db, run_id)
    timings = replace(
        generation().timings,
        kv_len=kv_len,
        decode_seconds=decode_seconds,
        machine_seconds=decode_seconds,
        queue_seconds=queue_seconds,
        prefill_tokens=10,
        prefill_seconds=0.1,
        process_memory_bytes=kv_len,
    )
    tried = replace(
        attempt(),
        generation=replace(generation(), timings=timings),
        started_at=f"2026-05-01T{at}.000Z",
        finished_at=f"2026-05-01T{at}.500Z",
    )
    queue.record(db, job.id, run_id, tried, turn(), DONE)


@pytest.fixture
def two_batches(db: Database) -> Database:
    """Three jobs in batch 1 (contexts of 10, 20 and 600; two hours), one in batch 2."""
    submit(db, lines(3), "one")
    submit(db, lines(1), "two")
    run_id = start(db)
    finish(db, run_id, 10, 1.0, "01:00:00", 0.1)
    finish(db, run_id, 20, 0.5, "01:00:10", 0.3)
    finish(db, run_id, 600, 2.0, "02:30:00", 0.2)
    finish(db, run_id, 5000, 4.0, "04:00:00", 0.9)
    return db


def test_the_numbers_of_a_batch_are_its_own(two_batches: Database) -> None:
    report = timing_report(two_batches, 1)
    t = report.totals
    assert (t.jobs, t.attempts, t.completion_tokens, t.longest_context) == (3, 3, 9, 600)
    assert t.tokens_per_second == pytest.approx(6 / 3.5)
    assert t.prefill_tokens_per_second == pytest.approx(100)
    assert (t.queue_seconds, t.longest_gap_seconds) == pytest.approx((0.6, 0.3))
    assert (report.typical_gap_seconds, report.bad_gap_seconds) == (0.2, 0.3)
    assert t.ended - t.began == pytest.approx(5400.5)
    assert timing_report(two_batches, None).totals.attempts == 4


def test_contexts_fall_into_bins_with_their_speeds(two_batches: Database) -> None:
    short, long = timing_report(two_batches, 1).by_context
    assert (short.kv_from, short.kv_to, short.attempts) == (0, 63, 2)
    assert short.tokens_per_second == pytest.approx(4 / 1.5)
    assert (short.slow_tenth, short.fast_tenth) == (2.0, 4.0)
    assert (long.kv_from, long.attempts, long.slow_tenth, long.fast_tenth) == (576, 1, 1.0, 1.0)


def test_hours_without_work_are_left_out(two_batches: Database) -> None:
    hours = timing_report(two_batches, None).by_hour
    assert [h.at % (24 * HOUR) // HOUR for h in hours] == [1, 2, 4]
    assert [h.attempts for h in hours] == [2, 1, 1]
    assert [h.process_memory_bytes for h in hours] == [20, 600, 5000]


def test_refused_attempts_are_counted_with_what_came_of_them(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    helped, lost = claim(db, run_id), claim(db, run_id)
    queue.record(db, helped.id, run_id, attempt(FIRST, Verdict.RETRY), None, None)
    second = AttemptKey(attempt=2)
    queue.record(db, helped.id, run_id, attempt(second), turn(second), DONE)
    queue.record(db, lost.id, run_id, attempt(FIRST, Verdict.RETRY), None, None)
    last = attempt(second, Verdict.GIVE_UP)
    queue.record(db, lost.id, run_id, last, turn(second, complete=False), DONE)
    (row,) = timing_report(db, None).refusals
    assert (row.reason, row.attempts, row.next_accepted, row.gave_up) == ("length", 3, 1, 1)
    assert row.completion_tokens == 9


def test_what_was_gone_on_with_is_refused_only_together_with_that(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    good, bad = claim(db, run_id), claim(db, run_id)
    places = [AttemptKey(attempt=n) for n in range(1, 5)]
    queue.record(db, good.id, run_id, attempt(places[0], Verdict.RETRY), None, None)
    queue.record(db, good.id, run_id, rest(places[1]), turn(places[1]), DONE)
    assert timing_report(db, None).refusals == ()
    # cut, and cut again; then cut, and whole
    for place, make in zip(places[:3], (attempt, rest, attempt), strict=True):
        queue.record(db, bad.id, run_id, make(place, Verdict.RETRY), None, None)
    queue.record(db, bad.id, run_id, rest(places[3]), turn(places[3]), DONE)
    (row,) = timing_report(db, None).refusals
    assert (row.reason, row.attempts, row.next_accepted, row.gave_up) == ("length", 1, 1, 0)
    assert (row.completion_tokens, row.model_seconds) == (5, 1.0)


def test_without_attempts_there_are_no_numbers(db: Database) -> None:
    report = timing_report(db, None)
    assert report.totals.attempts == 0
    assert report.typical_gap_seconds is None
    rows = (*report.by_context, *report.by_hour, *report.by_time, *report.refusals)
    assert rows == ()


def test_a_report_inside_a_transaction_is_of_that_state(two_batches: Database) -> None:
    with immediate(two_batches):
        two_batches.execute("DELETE FROM timings WHERE kv_len = 5000")
        assert timing_report(two_batches, None).totals.attempts == 3


def test_the_time_between_two_runs_is_the_time_that_the_worker_was_off(db: Database) -> None:
    submit(db, lines(4))
    # the first was killed: its last attempt is its end; the second had nothing to do
    bounds = [
        ("01:00:00", None, "01:00:10"),
        ("02:00:00", "02:30:00", None),
        ("02:30:05", "02:45:00", "02:30:10"),
        ("09:00:00", None, None),
    ]
    for began, ended, tried in bounds:
        run_id = start(db)
        if tried:
            finish(db, run_id, 10, 1.0, tried, 0.1)
        db.conn.execute(
            "UPDATE runs SET started_at = ?, finished_at = ? WHERE id = ?",
            (f"2026-05-01T{began}.000Z", ended and f"2026-05-01T{ended}.000Z", run_id),
        )
    report = timing_report(db, 1)
    lengths = [round(off.ended - off.began, 1) for off in report.off]
    assert lengths == [3589.5, 5.0]
    assert report.off_seconds == pytest.approx(3594.5)
    # bins are for the time that the worker was on
    assert report.time_width == time_width(report.totals.ended - report.totals.began - 3594.5, 2)


@given(st.integers(0, 10**7))
def test_contexts_of_any_length_make_few_bins(longest: int) -> None:
    width = context_width(longest)
    assert width & (width - 1) == 0
    assert longest // width < MOST_CONTEXT_BINS


@given(st.floats(0, 3 * 365 * 86400), st.integers(0, 10**7))
def test_nights_of_any_length_make_few_bins(seconds: float, attempts: int) -> None:
    width = time_width(seconds, attempts)
    assert width >= 1
    assert seconds / width <= MOST_TIME_BINS


def test_bins_of_time_are_round_and_hold_some_attempts() -> None:
    assert time_width(10 * HOUR, 100_000) == 600
    assert time_width(10 * HOUR, 60) == 1800
    assert round_seconds(0.2) == 1
    assert round_seconds(61) == 120


def test_attempts_side_by_side_share_the_clock(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    for made in (attempt(), side_by_side(), side_by_side()):
        queue.record(db, claim(db, run_id).id, run_id, made, turn(), DONE)
    report = timing_report(db, None)
    t = report.totals
    assert (t.decode_seconds, t.stall_seconds, t.machine_seconds) == (4.5, 2.0, 1.0)
    assert t.tokens_per_second == 6.0
    # half of the machine's time with one busy slot, the other half with four
    assert (t.parallel, t.rows) == (8, 2.5)
    (context,), (hour,) = report.by_context, report.by_hour
    assert (context.tokens_per_second, hour.tokens_per_second) == (6.0, 6.0)
    assert (context.slow_tenth, context.fast_tenth) == (4.0, 8.0)


def test_a_refused_attempt_costs_its_part_of_the_machine(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, side_by_side(FIRST, Verdict.RETRY), None, None)
    (row,) = timing_report(db, None).refusals
    assert row.model_seconds == 0.25


def test_the_views_have_the_decode_speed_of_the_reports(db: Database) -> None:
    views = {row["name"]: row["sql"] for row in db.query("SELECT * FROM sqlite_schema")}
    for name in ("results", "throughput", "speed_by_context"):
        assert DECODE_SPEED.replace("m.", "") in views[name].replace("m.", "")
