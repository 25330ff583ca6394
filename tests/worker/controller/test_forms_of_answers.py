"""What the conversations of a job ask for where its answers have a form."""

from typing import Any

import msgspec

from helpers.made import claimed, generation
from helpers.played import generate, record
from mh_batch.jobs.answers.forms import Form, ToolChoice
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.record import ClaimedJob, JobEnd
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.conversation import NEW
from mh_batch.worker.controller.job import JobRun

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
BY_SCHEMA = {"json": SCHEMA}
ADD = Tool(FunctionSpec("add", None, None, strict=False))


def with_add(**settings: Any) -> ClaimedJob:
    job = claimed(**settings)
    return msgspec.structs.replace(job, request=msgspec.structs.replace(job.request, tools=(ADD,)))


def test_each_of_several_completions_has_the_form_and_its_own_parsed_answer() -> None:
    run = JobRun.resume(claimed(n=3, structured_outputs=BY_SCHEMA), NEW)
    asked = [generate(run).request for _ in range(3)]
    assert [one.prompt.form for one in asked] == [Form("json_schema", SCHEMA)] * 3
    assert len({one.seed for one in asked}) == 3
    run.feed(1, generation('{"sum": 1}'))
    run.feed(0, generation('{"sum": 0} '))
    run.feed(2, generation('{"sum": "2"}', problems=("form_violated",)))
    turns = {r.attempt.key.choice: r.turn for r in (record(run), record(run), record(run))}
    found = {choice: turn and turn.parsed for choice, turn in turns.items()}
    assert found == {0: '{"sum": 0}', 1: '{"sum": 1}', 2: None}
    # the third is tried again, in its form
    again = generate(run)
    assert (again.key.choice, again.key.attempt) == (2, 2)
    assert again.request.prompt.form == Form("json_schema", SCHEMA)


def test_a_required_call_beside_a_form_ends_the_job_where_no_tool_answers() -> None:
    run = JobRun.resume(with_add(tool_choice="required", structured_outputs=BY_SCHEMA), NEW)
    prompt = generate(run).request.prompt
    assert (prompt.tool_choice, prompt.form) == (
        ToolChoice("required"),
        Form("json_schema", SCHEMA),
    )
    run.feed(0, generation(None, call="add"))
    ended = record(run)
    assert ended.end == JobEnd(Status.DONE)
    assert ended.turn is not None
    assert (ended.turn.final, ended.turn.parsed) == (None, None)
    assert ended.turn.finish_reason == "tool_calls"


def test_behind_the_result_of_a_required_call_the_answer_has_its_form() -> None:
    job = with_add(tool_results={"add": "42"}, tool_choice="required", structured_outputs=BY_SCHEMA)
    run = JobRun.resume(job, NEW)
    generate(run)
    run.feed(0, generation(None, call="add"))
    record(run)
    prompt = generate(run).request.prompt
    assert (prompt.tool_choice.mode, prompt.form) == ("auto", Form("json_schema", SCHEMA))
    run.feed(0, generation('{"sum": 42}'))
    turn = record(run).turn
    assert turn is not None
    assert turn.parsed == '{"sum": 42}'
