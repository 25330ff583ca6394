"""Two batches side by side: which jobs are a pair, and what became of them."""

from collections.abc import Sequence

from msgspec.structs import replace
from sqlite_utils import Database

from helpers.store_samples import (
    DONE,
    attempt,
    claim,
    generation,
    side_by_side,
    start,
    submit,
    turn,
)
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.record import Attempt, AttemptKey, JobEnd, JobLine, Verdict
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.lookup import find_batch
from mh_batch.store.reports.batch_page import batch_page
from mh_batch.store.reports.comparison import MOST_PAIRS, Comparison, comparison
from mh_batch.store.sql import statements

INCOMPLETE = JobEnd(Status.INCOMPLETE)


def job(number: int, custom_id: str, prompt: str, **settings: object) -> JobLine:
    return JobLine(number, custom_id, None, Request((Message("user", prompt),), settings=settings))


def answer(db: Database, run_id: int, text: str, end: JobEnd = DONE) -> None:
    """End the next job with one attempt that says `text`."""
    kept = replace(turn(complete=end is DONE), final=text)
    verdict = Verdict.ACCEPT if end is DONE else Verdict.GIVE_UP
    made = replace(attempt(verdict=verdict), generation=generation(text=text))
    queue.record(db, claim(db, run_id).id, run_id, made, kept, end)


def compared(db: Database, a: Sequence[JobLine], b: Sequence[JobLine]) -> Comparison:
    """Both batches with every job answered by its own prompt."""
    for name, jobs in (("a", a), ("b", b)):
        submit(db, jobs, name)
        run_id = start(db)
        for one in jobs:
            answer(db, run_id, one.request.messages[0].content)
    return comparison(db, find_batch(db, "a"), find_batch(db, "b"))


def ids(found: Comparison) -> list[tuple[str, str]]:
    return sorted((pair.a.job.custom_id, pair.b.job.custom_id) for pair in found.pairs)


def test_pairs_are_jobs_with_the_same_custom_id_else_with_the_same_prompt(db: Database) -> None:
    a = [job(1, "x", "one"), job(2, "y", "two"), job(3, "z", "three"), job(4, "only-a", "four")]
    b = [job(1, "v", "two"), job(2, "x", "one", temperature=0.0), job(3, "w", "three")]
    found = compared(db, a, b)
    assert ids(found) == [("x", "x"), ("y", "v"), ("z", "w")]
    assert (found.paired, [row.other_prompts for row in found.outcomes]) == (3, [0])


def test_a_made_custom_id_pairs_only_the_same_prompts(db: Database) -> None:
    a = [job(1, "line-1", "one"), job(2, "line-2", "two"), job(3, "line-3", "same")]
    b = [job(1, "line-1", "two"), job(2, "line-2", "zero"), job(3, "line-3", "same")]
    assert ids(compared(db, a, b)) == [("line-2", "line-1"), ("line-3", "line-3")]


def test_the_same_custom_id_with_another_prompt_is_a_pair_that_says_so(db: Database) -> None:
    found = compared(db, [job(1, "x", "one")], [job(1, "x", "two")])
    (pair,) = found.pairs
    assert (pair.same_prompt, pair.same_answer) == (False, False)
    assert [row.other_prompts for row in found.outcomes] == [1]


def test_a_prompt_that_occurs_twice_is_paired_in_order(db: Database) -> None:
    a = [job(1, "a1", "same"), job(2, "a2", "same"), job(3, "a3", "same")]
    b = [job(1, "b1", "same"), job(2, "b2", "same")]
    assert ids(compared(db, a, b)) == [("a1", "b1"), ("a2", "b2")]


def test_outcomes_are_counted_and_other_ones_come_first(db: Database) -> None:
    lines = [job(n, f"id-{n}", f"ask {n}") for n in range(3)]
    submit(db, lines, "a")
    run_id = start(db)
    for text in ("same", "left", "whole"):
        answer(db, run_id, text)
    submit(db, lines, "b")
    answer(db, run_id, "same")
    answer(db, run_id, "right")
    answer(db, run_id, "half", INCOMPLETE)
    found = comparison(db, find_batch(db, "a"), find_batch(db, "b"))
    assert [(r.a_status, r.b_status, r.pairs, r.same_answers) for r in found.outcomes] == [
        ("done", "done", 2, 1),
        ("done", "incomplete", 1, 0),
    ]
    assert [pair.a.job.custom_id for pair in found.pairs] == ["id-2", "id-1", "id-0"]
    assert [pair.same_answer for pair in found.pairs] == [False, False, True]


def test_speed_and_cost_are_of_the_pairs_alone(db: Database) -> None:
    submit(db, [job(1, "x", "one"), job(2, "alone", "two")], "a")
    run_id = start(db)
    for _ in range(2):
        queue.record(db, claim(db, run_id).id, run_id, side_by_side(), turn(), DONE)
    submit(db, [job(1, "x", "one")], "b")
    answer(db, run_id, "four")
    found = comparison(db, find_batch(db, "a"), find_batch(db, "b"))
    costs = [
        (s.paired.attempts, s.paired.tokens, s.paired.tokens_per_second) for s in (found.a, found.b)
    ]
    assert costs == [(1, 3, 8.0), (1, 3, 4.0)]
    (pair,) = found.pairs
    assert (pair.a.cost.tokens_per_second, pair.b.cost.tokens_per_second) == (8.0, 4.0)


def test_of_many_pairs_some_are_shown_from_the_whole_batch(db: Database) -> None:
    lines = [job(n, f"id-{n}", f"ask {n}") for n in range(3 * MOST_PAIRS)]
    found = compared(db, lines, lines)
    places = [pair.a.job.position for pair in found.pairs]
    assert len(places) == MOST_PAIRS
    assert places[0] <= 2
    assert places[-1] >= 3 * MOST_PAIRS - 3
    assert found.paired == 3 * MOST_PAIRS


def test_batches_without_a_common_job_have_no_pairs(db: Database) -> None:
    found = compared(db, [job(1, "x", "one")], [job(1, "y", "two")])
    assert (found.paired, found.pairs, found.a.paired.attempts) == (0, (), 0)


def test_no_statement_compares_each_job_with_each_of_the_other_batch(db: Database) -> None:
    found = statements("reports/comparison.sql")
    for name in ("outcomes", "speeds", "shown"):
        values = {"a": 1, "b": 2, "most": MOST_PAIRS}
        rows = db.conn.execute(
            f"EXPLAIN QUERY PLAN {found['pairs'].sql}{found[name].sql}", values
        ).fetchall()
        # the loops of a join are neighbours with the same parent
        loops = [row[1] for row in rows if row[3].startswith("SCAN ") and " (" not in row[3]]
        assert len(loops) == len(set(loops)), [tuple(row) for row in rows]


def test_a_sample_of_each_kind_of_job_is_on_the_page_of_a_batch(db: Database) -> None:
    submit(db, [job(n, f"id-{n}", f"ask {n}") for n in range(8)], "a")
    run_id = start(db)
    answer(db, run_id, "half", INCOMPLETE)
    for kind in ("good", "rescued", "retried", "good", "good", "good"):
        end_as(db, run_id, kind)
    found = batch_page(db, find_batch(db, "a")).samples
    assert [(one.kind, one.jobs_like_it, one.job.custom_id) for one in found] == [
        *(("good", 4, "id-1"), ("good", 4, "id-5"), ("good", 4, "id-6")),
        *(("rescued", 1, "id-2"), ("retried", 1, "id-3"), ("incomplete", 1, "id-0")),
    ]


def end_as(db: Database, run_id: int, kind: str) -> None:
    """End the next job with one good answer, with a rescued one, or at its second attempt."""
    claimed = claim(db, run_id)
    last: Attempt = attempt()
    if kind == "retried":
        queue.record(db, claimed.id, run_id, attempt(verdict=Verdict.RETRY), None, None)
        last = attempt(AttemptKey(attempt=2))
    rescued = kind == "rescued"
    kept = replace(turn(last.key), attempts=last.key.attempt, rescued=rescued)
    queue.record(db, claimed.id, run_id, replace(last, rescued=rescued), kept, DONE)


def test_a_batch_of_incomplete_jobs_has_samples_too(db: Database) -> None:
    submit(db, [job(1, "x", "one")], "a")
    answer(db, start(db), "half", INCOMPLETE)
    (sample,) = batch_page(db, find_batch(db, "a")).samples
    assert (sample.kind, sample.job.final) == ("incomplete", "half")
