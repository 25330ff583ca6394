"""The choices of one job, side by side: no model, no database, no clock."""

import random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.courses import answer, jobs, kinds, rejection
from helpers.made import claimed, generation, lost, malformed
from helpers.played import generate, record
from mh_batch.jobs.generation import Generation
from mh_batch.jobs.record import AttemptKey, ClaimedJob, History, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.conversation import NEW, Finish, Generate, Record
from mh_batch.worker.controller.job import JobRun

DONE = JobEnd(Status.DONE)


def started(n: int) -> JobRun:
    """The run of a new job with two turns and `n` choices."""
    return JobRun.resume(claimed((), ("a", "b"), n=n), NEW)


def play(run: JobRun, *generations: Generation) -> list[Record]:
    """One generation at a time."""
    records = []
    for each in generations:
        run.feed(generate(run).key.choice, each)
        records.append(record(run))
    return records


def history(*records: Record) -> History:
    """What the store holds after these records."""
    turns = tuple(r.turn for r in records if r.turn is not None)
    return History(tuple(r.attempt for r in records), turns)


def test_one_at_a_time_the_choices_are_played_in_order_with_seeds_of_their_own() -> None:
    records = play(started(2), *[generation(f"{i}") for i in range(4)])
    keys = [(r.attempt.key.choice, r.attempt.key.turn) for r in records]
    assert keys == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len({r.attempt.seed for r in records}) == 4
    assert [r.end for r in records] == [None, None, None, DONE]


def test_with_room_for_all_the_choices_are_open_at_once() -> None:
    run = started(3)
    assert [generate(run).key.choice for _ in range(3)] == [0, 1, 2]
    assert run.next() is None
    run.feed(1, generation("1"))
    assert record(run).attempt.key == AttemptKey(choice=1)
    assert generate(run).key == AttemptKey(choice=1, turn=2)
    assert run.next() is None


def test_the_record_of_the_last_choice_to_end_has_the_end_of_the_lowest_that_fell_short() -> None:
    run = JobRun.resume(claimed(n=3, max_attempts=1), NEW)
    for _ in range(3):
        generate(run)
    ends = []
    for choice, made in ((2, malformed()), (1, lost()), (0, generation())):
        run.feed(choice, made)
        ends.append(record(run).end)
    assert ends[:2] == [None, None]
    assert ends[2] is not None
    assert (ends[2].status, ends[2].error_code) == (Status.INCOMPLETE, "length")
    assert run.next() is None


def test_of_choices_that_ended_before_a_record_was_taken_the_last_record_has_the_end() -> None:
    run = JobRun.resume(claimed(n=2), NEW)
    for choice in (generate(run).key.choice, generate(run).key.choice):
        run.feed(choice, generation())
    assert [record(run).end, record(run).end] == [None, DONE]
    assert run.next() is None


def test_a_job_that_was_over_on_record_is_finished_once() -> None:
    job = claimed(n=2)
    records = play(JobRun.resume(job, NEW), generation(), generation())
    run = JobRun.resume(job, history(*records))
    assert (run.next(), run.next()) == (Finish(DONE), None)


def test_a_generation_that_is_withdrawn_comes_again() -> None:
    run = started(2)
    first = generate(run)
    assert generate(run).key.choice == 1
    run.withdraw(0)
    assert (run.next(), run.next()) == (first, None)


def test_only_an_open_generation_is_fed_or_withdrawn() -> None:
    run = started(2)
    generate(run)
    with pytest.raises(KeyError):
        run.feed(1, generation())
    with pytest.raises(KeyError):
        run.withdraw(1)


def test_what_comes_next_can_be_seen_without_opening_it() -> None:
    run = started(2)
    assert run.upcoming() == run.upcoming()
    assert run.upcoming() == run.next()
    assert run.upcoming() == run.next()
    assert run.upcoming() is None


def test_a_job_comes_to_a_stop_after_any_attempt() -> None:
    run = started(2)
    assert run.next(begin=False) is None
    play(run, malformed())
    # the retry is not begun, and neither is the other choice
    assert run.next(begin=False) is None
    # the stop was taken back
    assert generate(run).key == AttemptKey(attempt=2)
    run.feed(0, generation())
    record(run)
    assert run.next(begin=False) is None


def test_while_a_job_comes_to_a_stop_what_is_open_is_still_recorded() -> None:
    run = started(2)
    generate(run)
    generate(run)
    run.feed(0, generation())
    run.feed(1, malformed())
    assert isinstance(run.next(begin=False), Record)
    assert isinstance(run.next(begin=False), Record)
    assert run.next(begin=False) is None


def test_the_request_has_the_slots_of_the_job() -> None:
    job = msgspec.structs.replace(claimed(n=2), parallel=8)
    run = JobRun.resume(job, NEW)
    assert [generate(run).request.parallel for _ in range(2)] == [8, 8]


def test_a_requeued_choice_leaves_the_others_as_they_are() -> None:
    job = claimed(n=3, max_attempts=1)
    records = play(JobRun.resume(job, NEW), generation("1"), malformed(), generation("3"))
    run = JobRun.resume(*requeued(job, records))
    assert generate(run).key == AttemptKey(choice=1, attempt=2)
    assert run.next() is None
    run.feed(1, generation("2"))
    assert record(run).end == DONE


def requeued(job: ClaimedJob, records: list[Record]) -> tuple[ClaimedJob, History]:
    """A job after `retry`: that forgets a choice's incomplete turn and what came after it."""
    recorded = history(*records)
    incomplete = [turn.key for turn in recorded.turns if not turn.complete]
    kept = [
        turn
        for turn in recorded.turns
        if not any(key.choice == turn.key.choice and key <= turn.key for key in incomplete)
    ]
    again = msgspec.structs.replace(job, round=job.round + 1)
    return again, History(recorded.attempts, tuple(kept))


class Course(NamedTuple):
    """All that a run asked for and wrote, by attempt, and how it ended."""

    asked: dict[AttemptKey, Generate]
    written: dict[AttemptKey, Record]
    end: JobEnd


def one_after_the_other(
    job: ClaimedJob, start: History, answers: list[list[tuple[str, bool]]]
) -> Course:
    """The course of a job whose choices take their answers, then good ones, one at a time."""
    run = JobRun.resume(job, start)
    asked: dict[AttemptKey, Generate] = {}
    written: dict[AttemptKey, Record] = {}
    while True:
        action = run.next()
        match action:
            case Generate(key, request):
                number = sum(other.choice == key.choice for other in asked)
                kind, fits = dict(enumerate(answers[key.choice])).get(number, ("good", True))
                asked[key] = action
                index = 100 * key.choice + number
                made = answer(kind, fits, index, request)
                run.feed(key.choice, made, rejected=rejection(kind, index))
            case Record(attempt, _, end):
                written[attempt.key] = action
                if end is not None:
                    return Course(asked, written, end)
            case Finish(end):
                return Course(asked, written, end)
            case None:
                raise AssertionError("nothing to do, and no end")


def in_any_order(
    job: ClaimedJob, start: History, expected: Course, chance: random.Random
) -> Course:
    """The course of a job whose answers come as `chance` has it, among deaths of the worker."""
    run = JobRun.resume(job, start)
    records: list[Record] = []
    asked: dict[AttemptKey, Generate] = {}
    opened: dict[int, AttemptKey] = {}
    while True:
        move = chance.choice(["ask", "ask", "ask", "answer", "answer", "withdraw", "die"])
        if move == "die":
            since = history(*records)
            checkpoint = History(start.attempts + since.attempts, start.turns + since.turns)
            run = JobRun.resume(job, checkpoint)
            opened.clear()
        elif move != "ask" and opened:
            choice = chance.choice(sorted(opened))
            key = opened.pop(choice)
            if move == "withdraw":
                run.withdraw(choice)
            else:
                attempt = expected.written[key].attempt
                run.feed(choice, attempt.generation, rejected=attempt.rejected)
        elif move == "ask":
            action = run.next()
            match action:
                case Generate(key):
                    assert key.choice not in opened
                    assert action == asked.setdefault(key, action)
                    opened[key.choice] = key
                case Record(_, _, end):
                    records.append(action)
                    if end is not None:
                        return Course(asked, {r.attempt.key: r for r in records}, end)
                case Finish(end):
                    return Course(asked, {}, end)
                case None:
                    assert opened


@given(
    st.lists(kinds, min_size=3, max_size=3),
    jobs,
    st.none() | st.integers(0, 20),
    st.randoms(use_true_random=True),
)
def test_in_any_order_and_cut_at_any_record_a_job_takes_the_course_of_one_choice_after_the_other(
    answers: list[list[tuple[str, bool]]],
    job: ClaimedJob,
    retried_after: int | None,
    chance: random.Random,
) -> None:
    start = NEW
    if retried_after is not None:
        first = list(one_after_the_other(job, start, answers).written.values())
        job, start = requeued(job, first[:retried_after])
    expected = one_after_the_other(job, start, answers)
    course = in_any_order(job, start, expected, chance)
    assert (course.asked, course.end) == (expected.asked, expected.end)
    assert without_ends(course) == without_ends(expected)


def without_ends(course: Course) -> dict[AttemptKey, Record]:
    """The records by attempt; which of them has the end depends on the order."""
    return {k: msgspec.structs.replace(r, end=None) for k, r in course.written.items()}
