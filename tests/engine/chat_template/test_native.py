"""Chat templates of several families; what a user writes never becomes a control token."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.jobs.conversation import FunctionCall, FunctionSpec, Message, Role, Tool, ToolCall
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Prompt, StopReason

Make = Callable[[str, str], NativeAdapter]

KINDS = ["byte level", "metaspace", "unigram"]
WITH_SYSTEM = ["ChatML", "Llama-3", "Qwen, opens thinking"]
FAMILIES = [*WITH_SYSTEM, "Mistral, no system role", "drops system messages"]
CONTROL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<|begin_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<think>", "</think>", "<tool_call>",
]  # fmt: skip
WORDS = st.sampled_from(["hello", "the answer", " ", "<", "|>", "x", "\n", "<table>", "im_end"])
PLAIN = st.lists(WORDS, max_size=5).map("".join)
HOSTILE = st.lists(WORDS | st.sampled_from(CONTROL) | st.text(max_size=2), max_size=6).map("".join)
SECRET = "\ue0f0c0\ue0f1"

U: Role = "user"
A: Role = "assistant"
S: Role = "system"


def prompt(*messages: Message, **fields: Any) -> Prompt:
    return Prompt(messages=messages, date="2025-06-30", **fields)


def plainly(adapter: NativeAdapter, *messages: dict[str, Any], **keywords: Any) -> list[int]:
    """What a caller of Hugging Face's own method gets."""
    return list(
        adapter._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False,
            date_string="30 Jun 2025", **keywords,
        )
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", WITH_SYSTEM)
def test_ordinary_text_gets_the_ids_of_apply_chat_template(
    native: Make, kind: str, family: str
) -> None:
    adapter = native(kind, family)
    ours = adapter.render(
        prompt(
            Message(S, "the model"), Message(U, " hello"), Message(A, "there"), Message(U, "<x>")
        )
    )
    assert ours == plainly(
        adapter,
        {"role": S, "content": "the model"},
        {"role": U, "content": " hello"},
        {"role": A, "content": "there"},
        {"role": U, "content": "<x>"},
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["Mistral, no system role", "drops system messages"])
def test_without_a_system_role_instructions_begin_the_first_user_message(
    native: Make, kind: str, family: str
) -> None:
    adapter = native(kind, family)
    ours = adapter.render(prompt(Message(S, "the model"), Message(U, "hello")))
    assert ours == plainly(adapter, {"role": U, "content": "the model\n\nhello"})


def test_several_instructions_become_one_system_message(native: Make) -> None:
    adapter = native("byte level", "ChatML")
    ours = adapter.render(prompt(Message(S, "a"), Message(U, "hello"), Message("developer", "b")))
    assert ours == plainly(
        adapter, {"role": S, "content": "a\n\nb"}, {"role": U, "content": "hello"}
    )


def test_guidance_ends_the_last_user_message(native: Make) -> None:
    adapter = native("byte level", "ChatML")
    ours = adapter.render(prompt(Message(U, "hello"), Message(A, "there"), guidance="be brief"))
    assert ours == plainly(
        adapter,
        {"role": U, "content": "hello\n\nbe brief"},
        {"role": A, "content": "there"},
    )


def test_tools_and_calls_reach_a_template_that_takes_them(native: Make) -> None:
    adapter = native("byte level", "Qwen, opens thinking")
    call = ToolCall("1", FunctionCall("f", '{"a": "<|im_end|>"}'))
    tool = Tool(FunctionSpec("f", "does <|im_start|> things"))
    ids = adapter.render(
        prompt(
            Message(U, "hello"),
            Message(A, tool_calls=(call,)),
            Message("tool", "there", name="f", tool_call_id="1"),
            tools=(tool,),
        )
    )
    text = adapter.decode(ids)
    assert '"description": "does <|im_start|> things"' in text
    assert '<tool_call>{"name": "f", "arguments": {"a": "<|im_end|>"}}</tool_call>' in text
    im_end = adapter._tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(im_end) == 4


def test_the_date_is_the_batchs_and_not_the_clocks(native: Make) -> None:
    adapter = native("byte level", "Llama-3")
    text = adapter.decode(adapter.render(prompt(Message(S, "x"), Message(U, "y"))))
    assert "Today Date: 30 Jun 2025" in text
    asking = native("byte level", "asks the clock")
    assert asking.decode(asking.render(prompt(Message(U, "y")))).startswith(
        "it's Monday, 30 June\n<|im_start|>user"
    )


def test_a_conversation_that_the_template_refuses_is_an_error_of_the_job(native: Make) -> None:
    adapter = native("byte level", "Mistral, no system role")
    with pytest.raises(JobError, match="Roles must alternate"):
        adapter.render(prompt(Message(U, "a"), Message(U, "b")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_text_becomes_a_control_token_and_none_is_lost(
    native: Make, kind: str, family: str
) -> None:
    adapter = native(kind, family)
    # markup of other families is text like any other
    names = set(CONTROL) - ({"<tool_call>"} if family != "Qwen, opens thinking" else set())
    control = {adapter._tokenizer.convert_tokens_to_ids(name) for name in names}

    def render(system: str, user: str, answer: str, last: str) -> list[int]:
        return adapter.render(
            prompt(Message(S, system), Message(U, user), Message(A, answer), Message(U, last))
        )

    benign = [token for token in render("a", "a", "a", "a") if token in control]

    @given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    def check(system: str, user: str, answer: str, last: str) -> None:
        texts = ("s" + system, "u" + user, "a" + answer, "l" + last)
        ids = render(*texts)
        assert [token for token in ids if token in control] == benign
        if kind == "byte level":
            decoded = adapter.decode(ids)
            assert all(text.strip() in decoded for text in texts)

    check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hostile_text_leaves_the_ids_of_all_others_as_they_were(
    native: Make, kind: str, family: str
) -> None:
    adapter = native(kind, family)

    @given(PLAIN, PLAIN)
    def check(user: str, answer: str) -> None:
        turns = (Message(U, "u" + user), Message(A, "a" + answer))
        plain = adapter.render(prompt(*turns, Message(U, "x")))
        hostile = adapter.render(prompt(*turns, Message(U, "x<|im_end|>")))
        tail = next(i for i, (a, b) in enumerate(zip(plain, hostile, strict=False)) if a != b)
        assert adapter.decode(plain[:tail]).rstrip().endswith("x")

    check()


def test_the_secret_names_cannot_be_guessed_by_a_text(native: Make) -> None:
    adapter = native("byte level", "ChatML")
    ids = adapter.render(prompt(Message(U, f"{SECRET}<|im_end|>")))
    assert f"{SECRET}<|im_end|>" in adapter.decode(ids)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("hello", [("final", "hello")]),
        ("<think>the answer</think>\n\nhello", [("analysis", "the answer"), ("final", "hello")]),
        ("<think>\n\n</think>\n\nhello", [("final", "hello")]),
    ],
)
def test_reasoning_tags_become_the_analysis_channel(
    native: Make, text: str, channels: list[tuple[str, str]]
) -> None:
    adapter = native("byte level", "ChatML")
    (stop,) = adapter.stop_tokens
    tokens = [*adapter._tokenizer.encode(text, add_special_tokens=False), stop]
    parse = adapter.parse(tokens, StopReason.STOP_TOKEN)
    assert parse.well_formed
    assert [(c.channel, c.text) for c in parse.channels] == channels


def test_reasoning_that_the_prompt_opened_needs_no_opening_tag(native: Make) -> None:
    adapter = native("byte level", "Qwen, opens thinking")
    encode = adapter._tokenizer.encode
    (stop,) = adapter.stop_tokens
    parse = adapter.parse([*encode("the answer</think>hello"), stop], StopReason.STOP_TOKEN)
    assert (parse.text("analysis"), parse.text("final")) == ("the answer", "hello")
    assert parse.well_formed
    never_ends = adapter.parse([*encode("the answer"), stop], StopReason.STOP_TOKEN)
    assert {"no_final", "unclosed_thinking"} <= set(never_ends.problems)
    cut = adapter.parse(encode("the answer"), StopReason.MAX_TOKENS)
    assert (cut.text("analysis"), cut.text("final")) == ("the answer", None)
    assert {"no_final", "truncated"} == set(cut.problems)


def test_a_control_token_inside_an_answer_is_a_problem(native: Make) -> None:
    adapter = native("byte level", "ChatML")
    (stop,) = adapter.stop_tokens
    inside = adapter._tokenizer.convert_tokens_to_ids("<|im_start|>")
    words = adapter._tokenizer.encode("hello")
    parse = adapter.parse([*words, inside, *words, stop], StopReason.STOP_TOKEN)
    assert parse.problems == ("control_in_content",)


@given(tokens=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 400), max_size=12))
def test_any_tokens_at_all_are_read_without_an_exception(native: Make, tokens: list[int]) -> None:
    adapter = native("byte level", "Qwen, opens thinking")
    for reason in StopReason:
        parse = adapter.parse(tokens, reason)
        assert parse.well_formed is (not parse.problems)
