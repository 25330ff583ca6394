"""The rows of the attempts that a display shows."""

from mh_batch.jobs.record import AttemptKey
from mh_batch.worker.progress.running_attempts import (
    KEEP_SECONDS,
    SPEED_SECONDS,
    RunningAttempts,
)

FIRST = AttemptKey()
SLOTS = 3


def three() -> RunningAttempts:
    """Three conversations that have begun."""
    running = RunningAttempts()
    for job in (1, 2, 3):
        running.start(job, f"job-{job}", FIRST, SLOTS)
    return running


def names(running: RunningAttempts, now: float) -> list[str]:
    return [one.custom_id for one in running.shown(now)]


def test_the_next_attempt_of_a_conversation_stays_in_its_row() -> None:
    running = three()
    running.end(5.0, 1, 0)
    running.start(1, "job-1", AttemptKey(turn=2), SLOTS)
    assert names(running, 5.0) == ["job-1", "job-2", "job-3"]
    assert running.shown(5.0)[0].key.turn == 2


def test_the_next_conversation_takes_the_row_of_one_that_ended() -> None:
    running = three()
    running.end(5.0, 2, 0)
    assert names(running, 5.0) == ["job-1", "job-2", "job-3"]
    running.start(4, "job-4", FIRST, SLOTS)
    assert names(running, 5.0) == ["job-1", "job-4", "job-3"]


def test_a_row_that_nothing_takes_goes_after_a_moment_and_may_come_back() -> None:
    running = three()
    running.end(5.0, 2, 0)
    assert names(running, 5.0 + KEEP_SECONDS) == ["job-1", "job-3"]
    running.start(4, "job-4", FIRST, SLOTS)
    assert names(running, 9.0) == ["job-1", "job-4", "job-3"]


def test_what_starts_while_all_slots_are_taken_is_read_ahead_until_one_is_free() -> None:
    running = three()
    running.start(4, "job-4", FIRST, SLOTS)
    running.start(5, "job-5", FIRST, SLOTS)
    assert (names(running, 1.0), running.ahead) == (["job-1", "job-2", "job-3"], 2)
    running.end(5.0, 2, 0)
    assert (names(running, 5.0), running.ahead) == (["job-1", "job-4", "job-3"], 1)
    # the next turn waits behind what was read ahead before it
    running.start(2, "job-2", AttemptKey(turn=2), SLOTS)
    assert (names(running, 5.0), running.ahead) == (["job-1", "job-4", "job-3"], 2)
    # the first of those that wait is cancelled
    running.end(6.0, 5, 0)
    running.end(7.0, 1, 0)
    assert (names(running, 7.0), running.ahead) == (["job-2", "job-4", "job-3"], 0)


def test_choices_of_a_job_have_rows_of_their_own() -> None:
    running = RunningAttempts()
    running.start(1, "job-1", AttemptKey(choice=0), SLOTS)
    running.start(1, "job-1", AttemptKey(choice=1), SLOTS)
    running.report(1.0, 1, 1, 7)
    assert [one.tokens for one in running.shown(1.0)] == [0, 7]


def test_the_speed_is_that_of_all_attempts_by_the_clock() -> None:
    running = three()
    for job in (1, 2, 3):
        running.report(10.0, job, 0, 1)
    assert running.tokens_per_second is None
    for job in (1, 2, 3):
        running.report(12.0, job, 0, 41)
    # the first reports only begin the measurement: 120 tokens in 2 s
    assert running.tokens_per_second == 60.0
    running.end(12.0, 1, 0)
    running.report(13.0, 2, 0, 61)
    assert running.tokens_per_second == 140 / 3


def test_the_speed_forgets_what_is_long_ago() -> None:
    running = three()
    running.report(0.0, 1, 0, 0)
    running.report(1.0, 1, 0, 1000)
    running.report(1.0 + SPEED_SECONDS, 1, 0, 1010)
    assert running.tokens_per_second == 10 / SPEED_SECONDS
    running.report(2.0 + SPEED_SECONDS, 1, 0, 1020)
    assert running.tokens_per_second == 20 / (SPEED_SECONDS + 1)


def test_the_time_without_any_attempt_is_no_part_of_the_speed() -> None:
    running = RunningAttempts()
    running.start(1, "job-1", FIRST, SLOTS)
    running.report(0.0, 1, 0, 1)
    running.report(1.0, 1, 0, 21)
    assert running.tokens_per_second == 20.0
    running.end(1.0, 1, 0)
    assert running.tokens_per_second is None
    running.start(2, "job-2", FIRST, SLOTS)
    running.report(5.0, 2, 0, 1)
    running.report(6.0, 2, 0, 31)
    assert running.tokens_per_second == 30.0


def test_a_late_report_of_an_attempt_that_ended_changes_nothing() -> None:
    running = three()
    running.end(1.0, 1, 0)
    running.report(1.5, 1, 0, 9)
    running.report(1.5, 99, 0, 9)
    assert running.shown(1.5)[0].tokens == 0


def test_the_time_in_which_prompts_are_read_is_no_decoding() -> None:
    running = three()
    running.report(0.0, 1, 0, 0)
    running.report(50.0, 1, 0, 9)
    assert running.tokens_per_second is None
    running.report(52.0, 1, 0, 29)
    assert running.tokens_per_second == 10.0
