"""Prompts for gpt-oss equal what openai-harmony renders for the conversation built by hand."""

import string
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    ReasoningEffort,
    Role,
    SystemContent,
    ToolDescription,
)
from openai_harmony import Message as H

from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.special_tokens import is_text
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.jobs.conversation import FunctionCall, FunctionSpec, Message, Tool, ToolCall
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import Prompting

DATE = "2025-06-30"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}}
WEATHER = Tool(FunctionSpec("weather", "Tells the weather", SCHEMA))
CALL = ToolCall("call_1", FunctionCall("weather", '{"city": "Bern"}'))
ADAPTER = HarmonyAdapter()


def system(effort: ReasoningEffort = ReasoningEffort.MEDIUM) -> H:
    content = SystemContent.new().with_conversation_start_date(DATE).with_reasoning_effort(effort)
    return H.from_role_and_content(Role.SYSTEM, content)


def developer(text: str | None = None, tools: Sequence[ToolDescription] = ()) -> H:
    content = DeveloperContent.new()
    if text:
        content = content.with_instructions(text)
    if tools:
        content = content.with_function_tools(tools)
    return H.from_role_and_content(Role.DEVELOPER, content)


def user(text: str) -> H:
    return H.from_role_and_content(Role.USER, text)


def said(channel: str, text: str) -> H:
    return H.from_role_and_content(Role.ASSISTANT, text).with_channel(channel)


def called(name: str, arguments: str) -> H:
    message = said("commentary", arguments).with_recipient(f"functions.{name}")
    return message.with_content_type("<|constrain|>json")


def result(name: str, text: str) -> H:
    message = H.from_author_and_content(Author.new(Role.TOOL, f"functions.{name}"), text)
    return message.with_channel("commentary").with_recipient("assistant")


def by_hand(*messages: H) -> list[int]:
    conversation = Conversation.from_messages(list(messages))
    encoding = harmony_encoding()
    ids: list[int] = encoding.render_conversation_for_completion(conversation, Role.ASSISTANT)
    return ids


def render(*messages: Message, **fields: Any) -> list[int]:
    return ADAPTER.render(Prompt(messages=messages, date=DATE, **fields))


HI = Message("user", "Hi")
DESCRIBED = ToolDescription.new("weather", "Tells the weather", SCHEMA)


def test_a_plain_question() -> None:
    assert render(HI) == by_hand(system(), user("Hi"))


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_each_reasoning_effort(effort: Any) -> None:
    ours = render(HI, prompting=Prompting(reasoning_effort=effort))
    assert ours == by_hand(system(ReasoningEffort(effort.capitalize())), user("Hi"))


def test_system_and_developer_messages_become_one_developer_message() -> None:
    ours = render(Message("system", "Be kind."), Message("developer", "Be brief."), HI)
    assert ours == by_hand(system(), developer("Be kind.\n\nBe brief."), user("Hi"))


def test_tools_with_and_without_instructions() -> None:
    assert render(HI, tools=(WEATHER,)) == by_hand(
        system(), developer(None, [DESCRIBED]), user("Hi")
    )
    ours = render(Message("system", "Be kind."), HI, tools=(WEATHER,))
    assert ours == by_hand(system(), developer("Be kind.", [DESCRIBED]), user("Hi"))


def test_a_tool_call_and_its_result_keep_the_reasoning_before_them() -> None:
    ours = render(
        HI,
        Message("assistant", thinking="I should look.", tool_calls=(CALL,)),
        Message("tool", "Sunny", tool_call_id="call_1"),
        tools=(WEATHER,),
    )
    assert ours == by_hand(
        system(),
        developer(None, [DESCRIBED]),
        user("Hi"),
        said("analysis", "I should look."),
        called("weather", '{"city": "Bern"}'),
        result("weather", "Sunny"),
    )


def test_reasoning_is_dropped_from_every_turn_that_has_its_answer() -> None:
    turn = (HI, Message("assistant", "Hello", thinking="Greet."))
    plain = (user("Hi"), said("final", "Hello"))
    assert render(*turn, HI) == by_hand(system(), *plain, user("Hi"))
    # openai-harmony itself would keep the reasoning of the second turn
    assert render(*turn, *turn, HI) == by_hand(system(), *plain, *plain, user("Hi"))


def test_a_preamble_goes_to_the_commentary_before_its_call() -> None:
    ours = render(
        HI, Message("assistant", "Let me look.", tool_calls=(CALL,)), Message("tool", "Sunny")
    )
    assert ours == by_hand(
        system(),
        user("Hi"),
        said("commentary", "Let me look."),
        called("weather", '{"city": "Bern"}'),
        result("weather", "Sunny"),
    )


def test_guidance_is_a_developer_message_behind_the_last_one() -> None:
    assert render(HI, guidance="Be brief.") == by_hand(system(), user("Hi"), developer("Be brief."))


def test_each_kind_of_instruction_alone_becomes_the_developer_message() -> None:
    for role in ("system", "developer"):
        ours = render(Message(role, "Be kind."), HI)
        assert ours == by_hand(system(), developer("Be kind."), user("Hi"))
    # wherever it stands, for Harmony has one place for instructions
    ours = render(HI, Message("assistant", "Hello"), Message("developer", "Be kind."), HI)
    assert ours == by_hand(
        system(), developer("Be kind."), user("Hi"), said("final", "Hello"), user("Hi")
    )


NESTED = {
    "type": "object",
    "properties": {
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "which"},
        "at": {"type": "object", "properties": {"hour": {"type": "number"}}},
    },
    "required": ["days"],
}


@pytest.mark.parametrize(
    ("function", "description"),
    [
        (FunctionSpec("now", "Tells the time"), ToolDescription.new("now", "Tells the time", None)),
        (FunctionSpec("now"), ToolDescription.new("now", "", None)),
        (
            FunctionSpec("now", "Tells the time", {"type": "object", "properties": {}}),
            ToolDescription.new("now", "Tells the time", {"type": "object", "properties": {}}),
        ),
        (FunctionSpec("plan", "Plans", NESTED), ToolDescription.new("plan", "Plans", NESTED)),
    ],
    ids=["no parameters", "no description", "empty parameters", "nested parameters"],
)
def test_tools_with_and_without_parameters(
    function: FunctionSpec, description: ToolDescription
) -> None:
    assert render(HI, tools=(Tool(function),)) == by_hand(
        system(), developer(None, [description]), user("Hi")
    )
    assert render(HI, tools=(Tool(function), WEATHER)) == by_hand(
        system(), developer(None, [description, DESCRIBED]), user("Hi")
    )


def test_several_turns_with_instructions_effort_and_guidance() -> None:
    ours = render(
        Message("system", "Be kind."),
        HI,
        Message("assistant", "Hello"),
        Message("user", "How are you?"),
        Message("assistant", "Well", thinking="Say so."),
        Message("user", "Good."),
        prompting=Prompting(reasoning_effort="high"),
        guidance="Be brief.",
    )
    assert ours == by_hand(
        system(ReasoningEffort.HIGH),
        developer("Be kind."),
        user("Hi"),
        said("final", "Hello"),
        user("How are you?"),
        said("final", "Well"),
        user("Good."),
        developer("Be brief."),
    )


def test_a_chain_of_calls_keeps_the_reasoning_before_each() -> None:
    again = ToolCall("call_2", FunctionCall("weather", '{"city": "Basel"}'))
    ours = render(
        HI,
        Message("assistant", thinking="First Bern.", tool_calls=(CALL,)),
        Message("tool", "Sunny", tool_call_id="call_1"),
        Message("assistant", "Now Basel.", thinking="Then Basel.", tool_calls=(again,)),
        Message("tool", "Rain", tool_call_id="call_2"),
        tools=(WEATHER,),
        guidance="Answer now.",
    )
    assert ours == by_hand(
        system(),
        developer(None, [DESCRIBED]),
        user("Hi"),
        said("analysis", "First Bern."),
        called("weather", '{"city": "Bern"}'),
        result("weather", "Sunny"),
        said("analysis", "Then Basel."),
        said("commentary", "Now Basel."),
        called("weather", '{"city": "Basel"}'),
        result("weather", "Rain"),
        developer("Answer now."),
    )


def test_a_chain_in_a_later_turn_keeps_its_reasoning_and_earlier_turns_lose_theirs() -> None:
    chain = (
        Message("assistant", thinking="I should look.", tool_calls=(CALL,)),
        Message("tool", "Sunny", tool_call_id="call_1"),
    )
    calls = (called("weather", '{"city": "Bern"}'), result("weather", "Sunny"))
    ours = render(
        HI,
        Message("assistant", "Hello", thinking="Greet."),
        HI,
        *chain,
        Message("assistant", "It is sunny", thinking="Sunny, then."),
        HI,
        *chain,
        tools=(WEATHER,),
    )
    assert ours == by_hand(
        system(),
        developer(None, [DESCRIBED]),
        user("Hi"),
        said("final", "Hello"),
        user("Hi"),
        *calls,
        said("final", "It is sunny"),
        user("Hi"),
        said("analysis", "I should look."),
        *calls,
    )


def test_a_tool_result_finds_its_function_by_name_by_id_or_by_the_last_call() -> None:
    by_name = Message("tool", "Sunny", name="weather")
    by_id = Message("tool", "Sunny", tool_call_id="call_1")
    for answer in (by_name, by_id, Message("tool", "Sunny")):
        ours = render(HI, Message("assistant", tool_calls=(CALL,)), answer)
        assert ours == by_hand(
            system(), user("Hi"), called("weather", '{"city": "Bern"}'), result("weather", "Sunny")
        )


def test_a_tool_result_that_answers_nothing_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match="answers no call"):
        render(HI, Message("tool", "Sunny"))


def test_a_tool_name_that_could_forge_a_header_is_refused() -> None:
    with pytest.raises(JobError, match="cannot be called"):
        render(HI, Message("tool", "x", name="f<|message|>"))
    with pytest.raises(JobError, match="cannot be called"):
        render(HI, tools=(Tool(FunctionSpec("f\n")),))


def test_lone_surrogates_are_rendered_as_the_replacement_character() -> None:
    assert render(Message("user", "a\ud800b")) == render(Message("user", "a\ufffdb"))
    tool = Tool(FunctionSpec("f", "\udfff", {"type": "object", "properties": {"\ud800": {}}}))
    render(HI, tools=(tool,), guidance="\ud800")


def test_the_decoded_prompt_spells_out_its_control_tokens() -> None:
    text = ADAPTER.decode(render(HI))
    assert text.startswith("<|start|>system<|message|>You are ChatGPT")
    assert f"Current date: {DATE}" in text
    assert text.endswith("<|start|>user<|message|>Hi<|end|><|start|>assistant")


HOSTILE = st.lists(
    st.sampled_from(
        ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>",
         "<|constrain|>", "<|endoftext|>", "<|reserved_200017|>", "assistant", "final", " ", "x",
         "\ud800", "é"]
    )
    | st.text(max_size=3),
    max_size=6,
).map("".join)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(string.ascii_letters + "_-", min_size=1, max_size=8)


@given(st.lists(HOSTILE, min_size=9, max_size=9), JSON, NAMES)
def test_no_text_anywhere_becomes_a_control_token(texts: list[str], value: Any, name: str) -> None:
    def prompt(texts: Sequence[str], parameters: dict[str, Any]) -> list[int]:
        call = ToolCall("1", FunctionCall(name, texts[4]))
        tool = Tool(FunctionSpec(name, texts[7], parameters))
        return render(
            Message("system", "s" + texts[0]),
            Message("user", texts[1]),
            Message("assistant", texts[2], thinking="gone" + texts[3]),
            Message("user", texts[8]),
            Message("assistant", thinking="t" + texts[3], tool_calls=(call,)),
            Message("tool", texts[5], tool_call_id="1"),
            tools=(tool,),
            guidance="g" + texts[6],
        )

    def control(tokens: list[int]) -> list[int]:
        return [token for token in tokens if not is_text(token)]

    properties = value if isinstance(value, dict) else {"a": {"enum": [value], "default": value}}
    hostile = prompt(texts, {"type": "object", "properties": properties})
    assert control(hostile) == control(prompt(["x"] * 9, {}))


def test_of_the_variables_of_chat_templates_there_is_only_the_effort() -> None:
    adapter = HarmonyAdapter()

    def rendered(**variables: Any) -> list[int]:
        prompting = Prompting(chat_template_kwargs=variables)
        return adapter.render(Prompt((Message("user", "hi"),), "2025-06-30", prompting=prompting))

    plain = Prompt((Message("user", "hi"),), "2025-06-30", prompting=Prompting("high"))
    assert rendered(reasoning_effort="high") == adapter.render(plain)
    with pytest.raises(JobError, match="no variable enable_thinking; reasoning_effort"):
        rendered(enable_thinking=False)
    with pytest.raises(JobError, match="low, medium or high, got 'none'"):
        rendered(reasoning_effort="none")
