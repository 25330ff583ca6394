"""A batch read again: new parses beside the old ones, and what that may change."""

import msgspec
from sqlite_utils import Database

from helpers.store_samples import attempt, claim, finish_next, line, lines, start, submit, turn
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.generation import Channel, Parse, ParserTier
from mh_batch.jobs.record import AttemptKey, JobEnd
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.queue.reparse import add_parses, reparse_jobs

BETTER = Parse(2, ParserTier.TOLERANT, True, (), (Channel("final", "read better"),))
FIRST = AttemptKey()


def finals(db: Database) -> list[str]:
    return [row["final"] for row in db.query("SELECT final FROM turns ORDER BY turn")]


def test_a_new_reading_is_added_as_the_current_one_and_the_old_one_kept(db: Database) -> None:
    submit(db, lines(1))
    job = finish_next(db, start(db))
    found = add_parses(db, job.id, {FIRST: BETTER})
    assert (found.attempts, found.added, found.different, found.answers) == (1, 1, 1, 1)
    rows = db.query("SELECT parser_version, current FROM parses ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [(1, 0), (2, 1)]
    assert finals(db) == ["read better"]
    assert next(db.query("SELECT final FROM results"))["final"] == "read better"


def test_what_reads_as_before_is_not_added_again(db: Database) -> None:
    submit(db, lines(1))
    job = finish_next(db, start(db))
    same = attempt().generation.parse
    assert add_parses(db, job.id, {FIRST: same}).added == 0
    newer = msgspec.structs.replace(same, parser_version=2)
    found = add_parses(db, job.id, {FIRST: newer})
    assert (found.added, found.different) == (1, 0)
    assert add_parses(db, job.id, {FIRST: newer}).added == 0


def test_an_answer_that_a_later_turn_saw_stays_as_it_was(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    second = AttemptKey(turn=2)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    queue.record(db, job.id, run_id, attempt(second), turn(second), JobEnd(Status.DONE))
    found = add_parses(db, job.id, {FIRST: BETTER, second: BETTER})
    assert (found.different, found.answers, found.seen) == (2, 1, 1)
    assert finals(db) == ["four", "read better"]


def test_a_good_answer_does_not_give_way_to_a_bad_reading(db: Database) -> None:
    submit(db, lines(1))
    job = finish_next(db, start(db))
    worse = Parse(2, ParserTier.RAW, False, ("no_header",), (Channel("final", "raw"),))
    found = add_parses(db, job.id, {FIRST: worse})
    assert (found.broken, found.answers) == (1, 0)
    assert finals(db) == ["four"]


def test_an_answer_that_a_turn_may_yet_follow_stays_as_it_was(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    queue.finish(db, job.id, JobEnd(Status.FAILED, "prompt_too_long", "too long"))
    found = add_parses(db, job.id, {FIRST: BETTER})
    assert (found.different, found.answers, found.seen) == (1, 0, 1)
    assert finals(db) == ["four"]


def test_a_job_that_is_back_in_the_queue_is_left_alone(db: Database) -> None:
    submit(db, lines(1))
    run_id = start(db)
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), None)
    assert add_parses(db, job.id, {FIRST: BETTER}).attempts == 0
    assert list(reparse_jobs(db, job.batch_id)) == []


def test_the_finished_jobs_of_one_batch_come_with_their_attempts_and_their_adapter(
    db: Database,
) -> None:
    submit(db, lines(3))
    other = submit(db, lines(1), "other")
    run_id = start(db)
    done = [finish_next(db, run_id) for _ in range(2)]
    found = list(reparse_jobs(db, done[0].batch_id))
    assert [job.id for job in found] == [job.id for job in done]
    assert {job.adapter for job in found} == {"harmony"}
    assert found[0].attempts[0].generation.tokens == attempt().generation.tokens
    assert list(reparse_jobs(db, other)) == []


def test_an_answer_read_anew_has_the_json_of_its_form(db: Database) -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    submit(db, lines(1), settings=apply(Settings(), {"response_format": schema}))
    job = finish_next(db, start(db))
    (found,) = reparse_jobs(db, job.batch_id)
    assert found.form == Form("json_schema", {"type": "object"}, name="answer")
    in_json = Parse(2, ParserTier.TOLERANT, True, (), (Channel("final", ' {"a": 1}'),))
    assert add_parses(db, job.id, {FIRST: in_json}, found.form).answers == 1
    (row,) = db.query("SELECT final, parsed FROM results")
    assert row == {"final": ' {"a": 1}', "parsed": '{"a": 1}'}


def test_the_form_of_a_line_counts_before_that_of_its_batch(db: Database) -> None:
    regex, choice = {"regex": "a"}, {"choice": ["a", "b"]}
    own = msgspec.structs.replace(
        line(1), request=Request(turns=("x",), settings={"structured_outputs": choice})
    )
    batch_id = submit(db, [own], settings=apply(Settings(), {"structured_outputs": regex}))
    finish_next(db, start(db))
    assert [job.form for job in reparse_jobs(db, batch_id)] == [Form("choice", ("a", "b"))]


def test_what_shaped_the_prompts_of_a_job_is_there_for_its_parser(db: Database) -> None:
    silent = {"chat_template_kwargs": {"enable_thinking": False}}
    own = msgspec.structs.replace(line(1), request=Request(turns=("x",), settings=silent))
    batch_id = submit(db, [own, line(2)], settings=apply(Settings(), {"reasoning_effort": "low"}))
    run_id = start(db)
    for _ in range(2):
        finish_next(db, run_id)
    first, second = (job.prompting for job in reparse_jobs(db, batch_id))
    assert (first.reasoning_effort, first.chat_template_kwargs) == (
        "low",
        {"enable_thinking": False},
    )
    assert (second.reasoning_effort, second.chat_template_kwargs) == ("low", {})
