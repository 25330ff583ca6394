"""Finished jobs as rows for other tools."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mh_batch.jobs.conversation import FunctionCall, FunctionSpec, Message, Request, Tool, ToolCall
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import Channel, Parse, ParserTier
from mh_batch.jobs.record import AttemptKey, FinishedJob, FinishedTurn
from mh_batch.jobs.results.batch_output import error_line, openai_line
from mh_batch.jobs.results.formats import (
    FORMATS,
    completion_rows,
    csv_rows,
    format_of,
    messages_rows,
    sharegpt_rows,
)
from mh_batch.jobs.status import FINISHED, Status


def turn(
    number: int,
    *channels: Channel,
    choice: int = 0,
    step: int = 0,
    finish_reason: str = "stop",
    problems: tuple[str, ...] = (),
    **changes: Any,
) -> FinishedTurn:
    parse = Parse(1, ParserTier.STRICT, not problems, problems, channels)
    made = FinishedTurn(
        key=AttemptKey(choice, number, step),
        user=None if step else f"question {number}",
        final=parse.text("final"),
        analysis=parse.text("analysis"),
        finish_reason=finish_reason,
        attempts=1,
        rescued=False,
        prompt_tokens=10,
        completion_tokens=5,
        parse=parse,
        machine_seconds=0.5,
    )
    return msgspec.structs.replace(made, **changes)


def finished(status: Status = Status.DONE, *turns: FinishedTurn, **changes: object) -> FinishedJob:
    job = FinishedJob(
        id=3,
        batch_id=1,
        batch="b",
        position=7,
        custom_id="c-1",
        status=status,
        model="demo",
        request=Request((Message("system", "S"), Message("user", "question 1")), ("question 2",)),
        metadata=msgspec.Raw(b'{"k":1}'),
        error_code=None,
        error=None,
        finished_at="2026-01-02T03:04:05.000Z",
        turns=turns,
    )
    return msgspec.structs.replace(job, **changes)


ANSWER = (Channel("analysis", "think"), Channel("final", "answer"))
CALL = (Channel("analysis", "look"), Channel("commentary", '{"x":\n1.50}', "functions.f", "json"))
TOOLS = (Tool(FunctionSpec("f")),)


def encoded(line: dict[str, Any]) -> Any:
    return json.loads(msgspec.json.encode(line))


def read(rows: Iterator[dict[str, Any]]) -> list[Any]:
    return [encoded(row) for row in rows]


def with_tool(*turns: FinishedTurn, n: int = 1) -> FinishedJob:
    """A job whose tool is called in its first turn and answered from a list."""
    asked = Request(
        (Message("user", "question 1"),),
        ("question 2",),
        TOOLS,
        n=n,
        tool_results=("first result", "second result", "third result"),
    )
    return finished(Status.DONE, *turns, request=asked)


def test_an_openai_line_carries_the_last_answer_the_usage_of_all_turns_and_the_metadata() -> None:
    line = encoded(openai_line(finished(Status.DONE, turn(1, *ANSWER), turn(2, *ANSWER))))
    assert line["custom_id"] == "c-1"
    assert line["error"] is None
    assert line["metadata"] == {"k": 1}
    body = line["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["created"] == 1767323045
    assert body["usage"] == {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "answer", "reasoning_content": "think"},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert [t["final"] for t in line["mh_batch"]["turns"]] == ["answer", "answer"]


def test_a_failed_job_is_an_error_line_without_a_response() -> None:
    job = finished(Status.FAILED, error_code="prompt_too_long", error="too long")
    line = encoded(openai_line(job))
    assert line["response"] is None
    assert line["error"] == {"code": "prompt_too_long", "message": "too long"}


def test_a_tool_call_is_given_in_openai_form() -> None:
    call = Channel("commentary", '{"x":1}', recipient="functions.f", content_type="json")
    line = encoded(openai_line(finished(Status.DONE, turn(1, call, finish_reason="tool_calls"))))
    choice = line["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1_0_0", "function": {"name": "f", "arguments": '{"x":1}'}, "type": "function"}
    ]


def test_every_choice_has_an_entry_and_the_common_prompt_counts_once() -> None:
    turns = [turn(n, *ANSWER, choice=c, prompt_tokens=10 * n + c) for c in (0, 1) for n in (1, 2)]
    asked = Request((Message("user", "question 1"),), ("question 2",), n=2)
    line = encoded(openai_line(finished(Status.DONE, *turns, request=asked)))
    body = line["response"]["body"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"] == {
        "prompt_tokens": 10 + 20 + 21,
        "completion_tokens": 20,
        "total_tokens": 71,
    }
    keys = [(t["turn"], t.get("choice")) for t in line["mh_batch"]["turns"]]
    assert keys == [(1, None), (2, None), (1, 1), (2, 1)]


def test_what_is_unusual_about_a_turn_is_told_and_only_that() -> None:
    job = finished(
        Status.INCOMPLETE,
        turn(1, *ANSWER),
        turn(2, *ANSWER, problems=("truncated",), rescued=True),
    )
    usual, unusual = encoded(openai_line(job))["mh_batch"]["turns"]
    assert not {"choice", "step", "rescued", "problems"} & set(usual)
    assert (unusual["rescued"], unusual["problems"]) == (True, ["truncated"])
    rows = read(messages_rows(job))
    assert [row.get("problems") for row in rows] == [None, ["truncated"]]


def test_a_rescued_answer_is_told_in_every_format() -> None:
    clean = finished(Status.DONE, turn(1, *ANSWER), turn(2, *ANSWER))
    forced = finished(Status.DONE, turn(1, *ANSWER, rescued=True), turn(2, *ANSWER))
    for job, rescued in ((clean, False), (forced, True)):
        assert encoded(openai_line(job))["mh_batch"]["rescued"] is rescued
        assert [row["rescued"] for row in csv_rows(job)] == [int(rescued)]
        said = {True: [True, None], False: [None, None]}[rescued]
        assert [row.get("rescued") for row in read(messages_rows(job))] == said
        for rows in (completion_rows, sharegpt_rows):
            assert [row.get("rescued") for row in read(rows(job))] == [rescued or None]
    assert encoded(error_line(finished(Status.FAILED)))["mh_batch"]["rescued"] is False
    assert [row["rescued"] for row in csv_rows(finished(Status.FAILED))] == [0]


def test_an_incomplete_job_among_the_errors_keeps_its_reason_and_its_turns() -> None:
    job = finished(Status.INCOMPLETE, turn(1, *ANSWER), error_code="length", error="ran out")
    line = encoded(error_line(job))
    assert line["response"] is None
    assert line["error"] == {"code": "length", "message": "ran out"}
    assert line["mh_batch"]["turns"][0]["final"] == "answer"


def test_a_messages_row_ends_with_the_answer_to_train_on_and_earlier_reasoning_is_gone() -> None:
    first, second = read(messages_rows(finished(Status.DONE, turn(1, *ANSWER), turn(2, *ANSWER))))
    assert first["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer", "thinking": "think"},
    ]
    assert second["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "question 2"},
        {"role": "assistant", "content": "answer", "thinking": "think"},
    ]
    assert (first["turn"], second["turn"]) == (1, 2)
    assert (first["custom_id"], first["status"], first["metadata"]) == ("c-1", "done", {"k": 1})
    assert "choice" not in first


def test_within_a_tool_chain_the_reasoning_stays_until_the_next_question() -> None:
    called = turn(1, *CALL, finish_reason="tool_calls")
    rows = read(messages_rows(with_tool(called, turn(1, *ANSWER, step=1), turn(2, *ANSWER))))
    assert [(row["turn"], row["step"]) for row in rows] == [(1, 0), (1, 1), (2, 0)]
    call, answer, later = (row["messages"] for row in rows)
    assert [m["role"] for m in later] == [
        *("user", "assistant", "tool", "assistant", "user", "assistant")
    ]
    assert [m.get("thinking") for m in call] == [None, "look"]
    assert [m.get("thinking") for m in answer] == [None, "look", None, "think"]
    assert [m.get("thinking") for m in later] == [None, None, None, None, None, "think"]
    # chat templates encode the arguments themselves
    assert call[-1]["tool_calls"] == [
        {"id": "call_1_0_0", "type": "function", "function": {"name": "f", "arguments": {"x": 1.5}}}
    ]
    assert answer[2] == {
        "role": "tool",
        "content": "first result",
        "name": "f",
        "tool_call_id": "call_1_0_0",
    }
    assert rows[0]["tools"][0]["function"]["name"] == "f"


def test_a_list_of_tool_results_is_used_up_in_order_by_each_choice() -> None:
    steps = [
        turn(1, *(CALL if step < 2 else ANSWER), choice=choice, step=step)
        for choice in (0, 1)
        for step in (0, 1, 2)
    ]
    rows = read(messages_rows(with_tool(*steps, n=2)))
    assert [row["choice"] for row in rows] == [0, 0, 0, 1, 1, 1]
    for row in (rows[2], rows[5]):
        said = [m["content"] for m in row["messages"] if m["role"] == "tool"]
        assert said == ["first result", "second result"]


def test_what_the_context_holds_of_the_running_tool_chain_keeps_its_reasoning() -> None:
    called = ToolCall("c1", FunctionCall("f", "{}"))
    context = (
        Message("user", "a"),
        Message("assistant", "b", thinking="old"),
        Message("user", "c"),
        Message("assistant", thinking="now", tool_calls=(called,)),
        Message("tool", "d", name="f", tool_call_id="c1"),
    )
    (row,) = read(messages_rows(finished(Status.DONE, turn(1, *ANSWER), request=Request(context))))
    assert [m.get("thinking") for m in row["messages"]] == [None, None, None, "now", None, "think"]


def test_no_row_breaks_its_line_whatever_the_model_and_the_user_wrote() -> None:
    job = finished(
        Status.DONE,
        turn(1, *CALL, Channel("final", "a\r\nb\u2028")),
        metadata=msgspec.Raw(b'{"k":\r{"l":\n"x\\n"}}'),
    )
    for form in FORMATS.values():
        for row in form.rows(job):
            line = msgspec.json.encode(row)
            assert b"\n" not in line
            assert b"\r" not in line
            assert json.loads(line)["custom_id"] == "c-1"
    assert next(messages_rows(job))["metadata"] == msgspec.Raw(b'{"k": {"l": "x\\n"}}')


def test_arguments_that_are_no_object_are_given_as_they_were_written() -> None:
    call = Channel("commentary", "{x:", recipient="functions.f")
    (row,) = read(messages_rows(finished(Status.INCOMPLETE, turn(1, call))))
    assert row["messages"][-1]["tool_calls"][0]["function"]["arguments"] == "{x:"


def test_a_call_that_nobody_answered_has_no_place_in_later_rows() -> None:
    both = turn(1, *CALL, Channel("final", "and so"), finish_reason="stop")
    rows = read(messages_rows(finished(Status.INCOMPLETE, both, turn(2, *ANSWER))))
    assert "tool_calls" not in rows[1]["messages"][2]


def test_a_completion_pair_is_a_question_that_stands_alone_and_its_answer() -> None:
    (row,) = read(completion_rows(finished(Status.DONE, turn(1, *ANSWER), turn(2, *ANSWER))))
    assert row == {
        "prompt": "S\n\nquestion 1",
        "completion": "answer",
        "custom_id": "c-1",
        "status": "done",
        "metadata": {"k": 1},
    }


def test_no_completion_pair_is_made_where_an_answer_needs_a_history() -> None:
    history = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    needs = finished(Status.DONE, turn(1, *ANSWER), request=Request(history))
    assert read(completion_rows(needs)) == []
    called = turn(1, *CALL, finish_reason="tool_calls")
    assert read(completion_rows(with_tool(called, turn(1, *ANSWER, step=1)))) == []


def test_sharegpt_has_the_system_message_the_calls_and_what_the_tools_said() -> None:
    called = turn(1, *CALL, finish_reason="tool_calls")
    job = with_tool(called, turn(1, *ANSWER, step=1), turn(2, *ANSWER))
    (row,) = read(sharegpt_rows(job))
    assert [e["from"] for e in row["conversations"]] == [
        *("human", "function_call", "observation", "gpt", "human", "gpt")
    ]
    assert json.loads(row["conversations"][1]["value"]) == {"name": "f", "arguments": {"x": 1.5}}
    (plain,) = read(sharegpt_rows(finished(Status.DONE, turn(1, *ANSWER))))
    assert plain["conversations"] == [
        {"from": "system", "value": "S"},
        {"from": "human", "value": "question 1"},
        {"from": "gpt", "value": "answer"},
    ]


def test_a_csv_row_has_the_columns_and_adds_up_its_choice() -> None:
    asked = Request((Message("user", "question 1"),), n=2)
    turns = [turn(1, *ANSWER, choice=c, completion_tokens=5 + c) for c in (0, 1)]
    rows = list(csv_rows(finished(Status.DONE, *turns, request=asked)))
    columns = FORMATS["csv"].columns
    assert columns is not None
    assert [set(row) for row in rows] == [{*columns, "choice"}] * 2
    assert [(r["choice"], r["tokens"], r["tokens_per_second"]) for r in rows] == [
        (0, 5, 8.0),
        (1, 6, 10.0),
    ]


def test_the_speed_of_an_answer_is_that_of_the_part_that_was_timed() -> None:
    in_two_parts = turn(1, *ANSWER, completion_tokens=15, opened_tokens=10)
    (row,) = csv_rows(finished(Status.DONE, in_two_parts))
    assert (row["tokens"], row["tokens_per_second"]) == (15, 8.0)


def test_a_job_without_an_answer_is_a_csv_row_and_no_row_of_a_data_set() -> None:
    job = finished(Status.FAILED, error_code="prompt_too_long")
    (row,) = csv_rows(job)
    assert (row["final"], row["turns"], row["tokens"], row["error_code"]) == (
        *(None, 0, None),
        "prompt_too_long",
    )
    for name in ("messages", "completion", "sharegpt"):
        assert list(FORMATS[name].rows(job)) == []


def test_a_data_set_holds_only_what_went_well_and_the_others_every_finished_job() -> None:
    for name in ("messages", "completion", "sharegpt"):
        assert FORMATS[name].statuses == {Status.DONE}
    for name in ("openai", "csv", "parquet", "json"):
        assert FORMATS[name].statuses == FINISHED


PARSED = '{"name": "Ada",\n "born": 1815}'


def in_json(**changes: Any) -> FinishedJob:
    """A job whose two answers are JSON, the last of them of two fields."""
    first = turn(1, Channel("final", "{}"), parsed="{}")
    return finished(Status.DONE, first, turn(2, Channel("final", PARSED), parsed=PARSED), **changes)


def test_an_answer_in_json_is_a_value_in_batch_output_and_its_text_beside() -> None:
    encoded = msgspec.json.encode(openai_line(in_json()))
    assert b"\n" not in encoded
    read = json.loads(encoded)
    message = read["response"]["body"]["choices"][0]["message"]
    assert message["content"] == PARSED
    assert message["parsed"] == {"name": "Ada", "born": 1815}
    assert [t["parsed"] for t in read["mh_batch"]["turns"]] == [{}, message["parsed"]]
    assert in_json().parsed == PARSED


def test_an_answer_without_a_form_has_no_parsed() -> None:
    line = openai_line(finished(Status.DONE, turn(1, Channel("final", "{}"))))
    assert "parsed" not in line["response"]["body"]["choices"][0]["message"]
    assert "parsed" not in line["mh_batch"]["turns"][0]


def test_in_csv_the_json_of_the_last_answer_is_a_column() -> None:
    assert [row["parsed"] for row in csv_rows(in_json())] == [PARSED]
    free = finished(Status.DONE, turn(1, Channel("final", "x")))
    assert [row["parsed"] for row in csv_rows(free)] == [None]


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ("a.csv", "csv"),
        ("a.PQ", "parquet"),
        ("a.json", "json"),
        ("a.jsonl", "openai"),
        ("-", "openai"),
    ],
)
def test_the_ending_chooses_the_format(output: str, form: str) -> None:
    assert format_of(output) == form


@pytest.mark.parametrize("output", ["a.tsv", "a.xlsx", "a.jsonl.gz"])
def test_a_file_is_never_something_else_than_its_ending_says(output: str) -> None:
    with pytest.raises(InputError, match="is not written; --format says"):
        format_of(output)
