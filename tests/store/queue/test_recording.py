"""What is recorded comes back as it was, whole or not at all."""

import sqlite3

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    finish_next,
    line,
    lines,
    model,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.errors import UnknownTarget
from mh_batch.jobs.generation import (
    Channel,
    FinishReason,
    Generation,
    Parse,
    ParserTier,
    StopReason,
    Timings,
    pack_tokens,
    unpack_tokens,
)
from mh_batch.jobs.record import Attempt, AttemptKey, CompletedStep, Crash, History, JobEnd, Verdict
from mh_batch.jobs.settings import Sampling
from mh_batch.jobs.status import IllegalMove, Status
from mh_batch.store import queue

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MAYBE = st.none() | TEXT
COUNT = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6)
TIMINGS = st.builds(
    Timings,
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    queue_seconds=SECONDS,
    decode_seconds=SECONDS,
    parallel=st.integers(1, 64),
    rows=st.floats(1, 64),
    stall_seconds=SECONDS,
    machine_seconds=SECONDS,
    tokens_per_second=st.none() | SECONDS,
    kv_len=COUNT,
    max_kv_size=st.none() | COUNT,
    kv_layout=TEXT,
    process_memory_bytes=COUNT,
)
PARSE = st.builds(
    Parse,
    parser_version=st.integers(1, 9),
    tier=st.sampled_from(ParserTier),
    well_formed=st.booleans(),
    problems=st.lists(TEXT, max_size=3).map(tuple),
    channels=st.lists(
        st.builds(Channel, channel=TEXT, text=TEXT, recipient=MAYBE, content_type=MAYBE), max_size=4
    ).map(tuple),
)
GENERATION = st.builds(
    Generation,
    tokens=st.lists(st.integers(0, 2**32 - 1), max_size=30).map(tuple),
    raw=TEXT,
    finish_reason=st.sampled_from(FinishReason),
    stop_reason=st.sampled_from(StopReason),
    parse=PARSE,
    prompt_tokens=COUNT,
    prompt_sha256=TEXT,
    timings=TIMINGS,
    max_tokens=st.just(Sampling().max_tokens),
    dropped_turns=st.integers(0, 99),
    response_prefill=st.lists(st.integers(0, 2**32 - 1), max_size=30).map(tuple),
    room=st.none() | COUNT,
)
ATTEMPT = st.builds(
    Attempt,
    key=st.just(AttemptKey()),
    verdict=st.sampled_from(Verdict),
    retry_reason=MAYBE,
    seed=st.integers(0, 2**63 - 1),
    sampling=st.builds(Sampling, temperature=st.floats(0, 2), top_p=st.floats(0.01, 1)),
    generation=GENERATION,
    rescued=st.booleans(),
    continues=st.booleans(),
    started_at=TEXT,
    finished_at=TEXT,
    rejected=MAYBE,
)
TURN = st.builds(
    CompletedStep,
    key=st.just(AttemptKey()),
    user=MAYBE,
    final=MAYBE,
    analysis=MAYBE,
    finish_reason=TEXT,
    attempts=st.integers(1, 9),
    rescued=st.booleans(),
    complete=st.booleans(),
)


def counts(db: Database) -> dict[str, int]:
    names = ("attempts", "parses", "channels", "timings", "turns")
    return {name: db[name].count for name in names}


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=ATTEMPT, settled=st.none() | TURN)
def test_any_attempt_and_turn_come_back_equal(
    db: Database, made: Attempt, settled: CompletedStep | None
) -> None:
    submit(db, [line(1)])
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, made, settled, None)
    turns = () if settled is None else (settled,)
    assert queue.read_history(db, job.id) == History((made,), turns)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_tokens_are_packed_little_endian_and_come_back(tokens: list[int]) -> None:
    packed = pack_tokens(tokens)
    assert packed == b"".join(token.to_bytes(4, "little") for token in tokens)
    assert unpack_tokens(packed) == tuple(tokens)


def test_a_job_without_attempts_has_an_empty_record(db: Database) -> None:
    submit(db, lines(1))
    assert queue.read_history(db, 1) == History()


def test_a_conversation_comes_back_in_order(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    refused = attempt(AttemptKey(turn=1, attempt=1), Verdict.RETRY)
    taken = attempt(AttemptKey(turn=1, attempt=2))
    second = attempt(AttemptKey(turn=2, attempt=1))
    first_turn, second_turn = turn(taken.key), turn(second.key)
    queue.record(db, job.id, run_id, refused, None, None)
    queue.record(db, job.id, run_id, taken, first_turn, None)
    queue.record(db, job.id, run_id, second, second_turn, DONE)
    assert queue.read_history(db, job.id) == History(
        (refused, taken, second), (first_turn, second_turn)
    )
    row = db.table("jobs").get(job.id)
    assert (row["status"], row["error_code"]) == ("done", None)
    assert row["finished_at"].endswith("Z")


def test_the_attempt_kept_may_be_an_earlier_one(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    best = attempt(AttemptKey(attempt=1), Verdict.RETRY)
    last = attempt(AttemptKey(attempt=2), Verdict.GIVE_UP)
    kept = turn(best.key, complete=False)
    queue.record(db, job.id, run_id, best, None, None)
    queue.record(db, job.id, run_id, last, kept, JobEnd(Status.INCOMPLETE))
    assert queue.read_history(db, job.id).turns == (kept,)


def test_a_reparse_does_not_change_what_was_recorded(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = finish_next(db, run_id)
    before = queue.read_history(db, job.id)
    db.execute("UPDATE parses SET current = 0")
    db.execute(
        "INSERT INTO parses (attempt_id, parser_version, rung, well_formed, problems, current)"
        " VALUES (1, 2, 'raw', 0, '[\"x\"]', 1)"
    )
    assert queue.read_history(db, job.id) == before


def test_an_attempt_is_recorded_once_only(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), None, None)
    before = counts(db)
    with pytest.raises(sqlite3.IntegrityError):
        queue.record(db, job.id, run_id, attempt(), turn(), DONE)
    assert counts(db) == before
    assert db.table("jobs").get(job.id)["status"] == "running"


@pytest.mark.parametrize(
    ("settled", "end", "error"),
    [
        (turn(AttemptKey(attempt=9)), None, ValueError),
        (turn(), JobEnd(Status.RUNNING), IllegalMove),
    ],
    ids=["a turn of no attempt", "an end that is none"],
)
def test_an_attempt_with_all_that_hangs_on_it_is_recorded_as_a_whole_or_not_at_all(
    settled: CompletedStep, end: JobEnd | None, error: type[Exception], db: Database
) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    with pytest.raises(error):
        queue.record(db, job.id, run_id, attempt(), settled, end)
    assert set(counts(db).values()) == {0}
    assert db.table("batches").get(1)["attempts"] == 0


def test_an_attempt_of_a_job_or_run_that_is_not_there_is_refused(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    for job_id, run in ((99, run_id), (1, 99)):
        with pytest.raises(sqlite3.IntegrityError):
            queue.record(db, job_id, run, attempt(), None, None)


def test_a_job_moves_only_as_its_status_allows(db: Database) -> None:
    submit(db, lines(2))
    job = claim(db, start(db))
    queue.finish(db, job.id, JobEnd(Status.FAILED, "prompt_too_long", "too long by 7 tokens"))
    row = db.table("jobs").get(job.id)
    assert (row["error_code"], row["error"]) == ("prompt_too_long", "too long by 7 tokens")
    for job_id in (job.id, 2):
        with pytest.raises(IllegalMove):
            queue.finish(db, job_id, DONE)
    with pytest.raises(UnknownTarget, match="no job 99"):
        queue.finish(db, 99, DONE)


def test_crashes_count_on_the_open_attempt_alone(db: Database) -> None:
    submit(db, lines(2))
    run_id = start(db)
    job, other = claim(db, run_id), claim(db, run_id)
    here, next_attempt = AttemptKey(), AttemptKey(attempt=2)
    for signal in (9, 11):
        crash = Crash(here, "prefill", signal, None, "Metal: out of memory")
        queue.record_crash(db, job.id, run_id, crash)
    queue.record_crash(db, job.id, run_id, Crash(next_attempt, "decode", None, 1, ""))
    queue.record_crash(db, job.id, run_id, Crash(next_attempt, "load", None, 1, ""))
    assert queue.crashes_on(db, job.id, here) == 2
    assert queue.crashes_on(db, job.id, next_attempt) == 1
    assert queue.crashes_on(db, other.id, here) == 0
    row = next(iter(db["crashes"].rows))
    assert (row["phase"], row["signal"], row["exit_code"]) == ("prefill", 9, None)


def test_a_crash_of_several_attempts_makes_each_suspect_and_blames_none(db: Database) -> None:
    submit(db, lines(3))
    run_id = start(db)
    first, second, other = (claim(db, run_id).id for _ in range(3))
    here, later = AttemptKey(), AttemptKey(turn=2)
    together = Crash(here, "decode", 6, None, "", alone=False)
    queue.record_crashes(db, run_id, [(first, together), (second, replace(together, key=later))])
    suspects = [(first, here), (second, later), (second, here), (other, here)]
    assert [queue.shared_crashes_on(db, *suspect) for suspect in suspects] == [1, 1, 0, 0]
    assert [queue.crashes_on(db, *suspect) for suspect in suspects] == [0, 0, 0, 0]
    queue.record_crash(db, first, run_id, Crash(here, "decode", 6, None, ""))
    assert (queue.crashes_on(db, first, here), queue.shared_crashes_on(db, first, here)) == (1, 1)


@pytest.mark.parametrize(
    "crash",
    [
        Crash(AttemptKey(), "load", 6, None, "", alone=False),
        Crash(AttemptKey(), "template", 6, None, "", alone=False),
        Crash(AttemptKey(), "decode", 6, None, "", alone=False, cleared=True),
    ],
    ids=lambda crash: crash.phase,
)
def test_no_attempt_is_suspect_where_none_can_be_to_blame(db: Database, crash: Crash) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record_crashes(db, run_id, [(job.id, crash)])
    assert queue.shared_crashes_on(db, job.id, crash.key) == 0


def test_the_attempt_after_one_that_passed_is_not_suspect(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    crash = Crash(AttemptKey(), "decode", 6, None, "", alone=False)
    queue.record_crashes(db, run_id, [(job.id, crash)])
    # found by the next worker too
    assert queue.recover(db) == 1
    assert queue.shared_crashes_on(db, claim(db, start(db)).id, AttemptKey()) == 1
    queue.record(db, job.id, run_id, attempt(verdict=Verdict.RETRY), None, None)
    assert queue.shared_crashes_on(db, job.id, AttemptKey(attempt=2)) == 0


def test_a_run_tells_how_many_conversations_it_had_at_once(db: Database) -> None:
    plain = db.table("runs").get(start(db))
    assert (plain["parallel"], plain["allow_variance"], plain["most_rows"]) == (1, 0, None)
    run_id = queue.start_run(db, "{}", {}, parallel=8)
    queue.allow_variance(db, run_id)
    queue.limit_rows(db, run_id, 4)
    row = db.table("runs").get(run_id)
    assert (row["parallel"], row["allow_variance"], row["most_rows"]) == (8, 1, 4)
    assert db.table("runs").get(plain["id"]) == plain


def test_the_reason_of_a_check_comes_back_with_its_attempt(db: Database) -> None:
    submit(db, lines(1))
    run_id = queue.start_run(db, "{}", {}, accept='{"name":"check.py:f"}')
    assert db.table("runs").get(run_id)["accept"] == '{"name":"check.py:f"}'
    assert db.table("runs").get(start(db))["accept"] is None
    job = claim(db, run_id)
    rejected = replace(
        attempt(verdict=Verdict.RETRY), retry_reason="rejected", rejected="no digit <|end|>"
    )
    queue.record(db, job.id, run_id, rejected, None, None)
    assert queue.read_history(db, job.id).attempts == (rejected,)


def test_a_claimed_job_has_the_metadata_of_its_line(db: Database) -> None:
    extra = msgspec.Raw(b'{"gold": 42}')
    submit(db, [replace(line(1), metadata=extra), line(2)])
    run_id = start(db)
    assert [claim(db, run_id).metadata for _ in range(2)] == [extra, None]


def test_a_run_tells_what_ran_and_how_it_ended(db: Database) -> None:
    run_id = queue.start_run(db, '{"watch": false}', {"mh-batch": "0.1"})
    queue.set_run_model(db, run_id, model())
    row = db.table("runs").get(run_id)
    assert (row["model"], row["device"], row["finished_at"]) == ("demo", "cpu", None)
    assert row["versions"] == '{"mh-batch":"0.1","mlx":"1.0"}'
    queue.finish_run(db, run_id, 7, "empty")
    row = db.table("runs").get(run_id)
    assert (row["jobs_done"], row["end_reason"]) == (7, "empty")
    assert row["finished_at"] >= row["started_at"]


def test_the_totals_of_a_batch_follow_its_attempts(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, side_by_side(AttemptKey(), Verdict.RETRY), None, None)
    queue.record(
        db, job.id, run_id, attempt(AttemptKey(attempt=2)), turn(AttemptKey(attempt=2)), DONE
    )
    totals = db.query(
        "SELECT count(*) AS attempts, sum(a.attempt > 1) AS retries,"
        " sum(a.completion_tokens) AS completion_tokens, sum(decode_seconds) AS decode_seconds,"
        " sum(machine_seconds) AS machine_seconds"
        " FROM attempts AS a JOIN timings ON attempt_id = a.id"
    )
    expected = next(iter(totals))
    batch = db.table("batches").get(1)
    assert {name: batch[name] for name in expected} == expected


def test_a_mixed_run_leaves_a_sound_file(db: Database) -> None:
    submit(db, lines(6), name="one")
    submit(db, lines(2), name="two", priority=1)
    run_id = start(db)
    for status in (Status.DONE, Status.INCOMPLETE, Status.CANCELLED):
        finish_next(db, run_id, JobEnd(status))
    job = claim(db, run_id)
    queue.record_crash(db, job.id, run_id, Crash(AttemptKey(), "decode", 6, None, "abort"))
    queue.finish(db, job.id, JobEnd(Status.FAILED, "model_crashed", "died"))
    claim(db, run_id)
    queue.recover(db)
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    for table in ("timings", "channels"):
        orphans = f"SELECT count(*) FROM {table} WHERE attempt_id NOT IN (SELECT id FROM attempts)"
        assert db.execute(orphans).fetchone()[0] == 0


def test_a_rehearsal_raises_what_recording_would_and_leaves_nothing(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    before = "\n".join(db.conn.iterdump())
    queue.rehearse(db, run_id, attempt(), turn())
    with pytest.raises(sqlite3.IntegrityError):
        queue.rehearse(db, run_id + 1, attempt(), turn())
    assert "\n".join(db.conn.iterdump()) == before
    queue.record(db, job.id, run_id, attempt(), turn(), None)


def test_a_job_that_is_in_nobodys_hands_is_not_released(db: Database) -> None:
    submit(db, lines(1))
    job = claim(db, start(db))
    queue.finish(db, job.id, JobEnd(Status.FAILED, "internal_error", "x"))
    with pytest.raises(IllegalMove, match="failed cannot be released"):
        queue.release(db, job.id)
