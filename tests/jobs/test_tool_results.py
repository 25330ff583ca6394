"""Scripted tools answer the calls of an assistant."""

from mh_batch.jobs.conversation import FunctionCall, Message, ToolCall, answers

CALLS = (
    ToolCall("call_1", FunctionCall("weather", "{}")),
    ToolCall("call_2", FunctionCall("time", "{}")),
)


def test_a_map_answers_each_function_by_its_name() -> None:
    assert answers(CALLS, {"time": "noon", "weather": "rain"}, 5) == (
        Message("tool", "rain", name="weather", tool_call_id="call_1"),
        Message("tool", "noon", name="time", tool_call_id="call_2"),
    )


def test_a_list_answers_in_order_from_where_earlier_calls_left_it() -> None:
    found = answers(CALLS, ("used", "rain", "noon"), 1)
    assert found is not None
    assert [message.content for message in found] == ["rain", "noon"]


def test_a_call_without_an_answer_leaves_all_of_them_unanswered() -> None:
    assert answers(CALLS, {"weather": "rain"}, 0) is None
    assert answers(CALLS, ("rain",), 0) is None
