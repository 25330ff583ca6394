"""Finished jobs as lines for other tools."""

import json
from typing import Any

import msgspec

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.formats import FORMATS, messages_line, openai_line
from mh_batch.jobs.generation import Channel, Parse, Rung
from mh_batch.jobs.record import FinishedJob, FinishedTurn, Place
from mh_batch.jobs.status import FINISHED, Status


def turn(number: int, *channels: Channel, finish_reason: str = "stop") -> FinishedTurn:
    parse = Parse(1, Rung.STRICT, True, (), channels)
    return FinishedTurn(
        place=Place(turn=number),
        user=f"question {number}",
        final=parse.text("final"),
        analysis=parse.text("analysis"),
        finish_reason=finish_reason,
        attempts=1,
        rescued=False,
        prompt_tokens=10,
        completion_tokens=5,
        parse=parse,
    )


def finished(status: Status = Status.DONE, *turns: FinishedTurn, **changes: object) -> FinishedJob:
    job = FinishedJob(
        id=3,
        batch="b",
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


def encoded(line: dict[str, Any]) -> Any:
    return json.loads(msgspec.json.encode(line))


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


def test_a_messages_line_is_the_whole_conversation_with_thinking() -> None:
    line = encoded(messages_line(finished(Status.DONE, turn(1, *ANSWER), turn(2, *ANSWER))))
    assert line["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer", "thinking": "think"},
        {"role": "user", "content": "question 2"},
        {"role": "assistant", "content": "answer", "thinking": "think"},
    ]


def test_a_data_set_holds_only_what_went_well_and_the_batch_output_every_finished_job() -> None:
    assert FORMATS["messages"].statuses == {Status.DONE}
    assert FORMATS["openai"].statuses == FINISHED
