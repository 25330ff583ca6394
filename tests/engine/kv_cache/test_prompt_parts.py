"""Where an adapter says that a prompt may be cut is the same in all prompts that begin alike."""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.small_models import TEMPLATES
from mh_batch.engine.adapter import Adapter
from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.chat_template.message_ends import (
    MERGE_MARGIN,
    MessageEnds,
    closing,
    common_beginning,
)
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.kv_cache.chunking import ChunkBoundary, chunk_boundaries
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.generation import Prompt

Make = Callable[[str, str], NativeAdapter]

HARMONY = HarmonyAdapter()
KINDS = ["byte level", "metaspace", "unigram"]
TURNING = [
    name
    for name in TEMPLATES
    if name not in ("drops system messages", "asks the clock", "may think")
]
WORDS = st.sampled_from(
    ["hello", "the answer.", "!?", " ", "\n", "\n\n", "<|im_end|>", "[/INST]", " ASSISTANT:", "x"]
)
TEXTS = st.lists(WORDS | st.text(max_size=3), max_size=12).map("".join)
GUIDANCE = st.sampled_from(["Be brief. End with an answer.", "The last one was malformed."])


def conversation(*texts: str, system: str | None = None, **fields: Any) -> Prompt:
    messages = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    if system:
        messages.insert(0, Message("system", system))
    return Prompt(tuple(messages), "2025-06-30", **fields)


def parts(adapter: Adapter, prompt: Prompt) -> list[str]:
    """The text of a prompt, cut at its parts."""
    tokens = adapter.render(prompt)
    found = adapter.prompt_parts(prompt, tokens)
    places = sorted({0, found.instructions, *found.messages, len(tokens)})
    return [adapter.decode(tokens[a:b]) for a, b in itertools.pairwise(places)]


def test_a_harmony_message_ends_behind_the_start_of_the_next() -> None:
    found = parts(HARMONY, conversation("Hi", "Yes?", "Go", system="Be brief."))
    assert found[0].startswith("<|start|>system<|message|>")
    assert found[0].endswith("Be brief.<|end|><|start|>")
    assert found[1:] == [
        "user<|message|>Hi<|end|><|start|>",
        "assistant<|channel|>final<|message|>Yes?<|end|><|start|>",
        "user<|message|>Go<|end|><|start|>",
        "assistant",
    ]


def test_harmonys_guidance_begins_where_the_answer_would() -> None:
    plain = conversation("Hi", "Yes?", "Go", system="Be brief.")
    guided = msgspec.structs.replace(plain, guidance="Think briefly.")
    tokens, others = HARMONY.render(plain), HARMONY.render(guided)
    found, other = HARMONY.prompt_parts(plain, tokens), HARMONY.prompt_parts(guided, others)
    assert found.guidance == other.guidance == len(tokens) - 1 == common_beginning(tokens, others)
    assert other.messages == (*found.messages, len(others) - 1)
    assert other.instructions == found.instructions


def test_a_prompt_without_a_message_of_its_own_has_no_boundaries() -> None:
    assert HARMONY.prompt_parts(conversation("x"), [1, 2, 3]) == (0, (), 0)


@pytest.mark.parametrize("template", ["ChatML", "Llama-3", "Qwen, opens thinking"])
def test_other_instructions_end_with_the_system_message(native: Make, template: str) -> None:
    adapter = native("byte level", template)
    system = "the model thinks about it"
    one = conversation("hello", system=system)
    other = conversation("the answer", "yes", "hello", system=system)
    tokens, others = adapter.render(one), adapter.render(other)
    end = adapter.prompt_parts(one, tokens).instructions
    assert adapter.prompt_parts(other, others).instructions == end
    assert tokens[:end] == others[:end]
    assert system in adapter.decode(tokens[:end])
    assert "hello" not in adapter.decode(tokens[:end])
    without = conversation("hello")
    assert adapter.prompt_parts(without, adapter.render(without)).instructions == 0


def test_tools_are_instructions_too(native: Make) -> None:
    adapter = native("byte level", "Qwen, opens thinking")
    tool = Tool(FunctionSpec("f", "what it does", {"type": "object"}))
    prompt = conversation("hello", tools=(tool,))
    tokens = adapter.render(prompt)
    end = adapter.prompt_parts(prompt, tokens).instructions
    assert "what it does" in adapter.decode(tokens[:end])
    assert "hello" not in adapter.decode(tokens[:end])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TURNING)
def test_another_message_ends_shortly_before_its_end(
    native: Make, kind: str, template: str
) -> None:
    adapter = native(kind, template)
    question = "what is the answer?"
    plain = conversation(question)
    guided = msgspec.structs.replace(plain, guidance="Be brief.")
    tokens, others = adapter.render(plain), adapter.render(guided)
    found, other = adapter.prompt_parts(plain, tokens), adapter.prompt_parts(guided, others)
    assert found.guidance == other.guidance == found.messages[-1]
    assert tokens[: found.guidance] == others[: found.guidance]
    later = conversation(question, "x", "y")
    assert found.guidance in adapter.prompt_parts(later, adapter.render(later)).messages


def shared_boundaries(
    adapter: Adapter, prompt: Prompt, step: int
) -> tuple[list[int], list[ChunkBoundary]]:
    tokens = adapter.render(prompt)
    boundaries = chunk_boundaries(tokens, adapter.prompt_parts(prompt, tokens), step, "x")
    return tokens, [boundary for boundary in boundaries if boundary.shared]


def check_alike(adapter: Adapter, prompts: list[Prompt], step: int, ahead: int) -> None:
    """Any two prompts have the same boundaries as far as they are alike, less `ahead` tokens."""
    found = [shared_boundaries(adapter, prompt, step) for prompt in prompts]
    for (tokens, boundaries), (others, other_boundaries) in itertools.combinations(found, 2):
        # the last token of a prompt is behind all of its boundaries
        alike = min(
            common_beginning(tokens[:-1], others[:-1]), common_beginning(tokens, others) - ahead
        )
        assert [c for c in boundaries if c.end <= alike] == [
            c for c in other_boundaries if c.end <= alike
        ]


CONVERSATIONS = st.lists(TEXTS, min_size=3, max_size=7)
STEPS = st.sampled_from([16, 40, 64, 512])


def prompts_of(texts: list[str], system: str | None, guidance: str) -> list[Prompt]:
    """The prompts of each turn of a conversation, with and without guidance."""
    plain = [conversation(*texts[:end], system=system) for end in range(1, len(texts) + 1, 2)]
    return [*plain, *(msgspec.structs.replace(prompt, guidance=guidance) for prompt in plain)]


@given(CONVERSATIONS, st.none() | TEXTS, GUIDANCE, STEPS)
@settings(deadline=None)
def test_harmony_prompts_that_begin_alike_are_cut_alike_to_the_token(
    texts: list[str], system: str | None, guidance: str, step: int
) -> None:
    check_alike(HARMONY, prompts_of(texts, system, guidance), step, ahead=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TURNING)
@given(CONVERSATIONS, GUIDANCE, STEPS)
@settings(deadline=None, max_examples=20)
def test_other_prompts_that_begin_alike_are_cut_alike(
    native: Make, kind: str, template: str, texts: list[str], guidance: str, step: int
) -> None:
    # what closes a question has to be alike as well
    check_alike(native(kind, template), prompts_of(texts, None, guidance), step, MERGE_MARGIN + 40)


def test_a_message_ends_a_few_tokens_before_a_control_token_or_what_closes_a_question() -> None:
    control = MessageEnds({1, 2}, (2, 30, 1))
    # the last control token of what closes a question is no end of its own
    assert control.find([1, *[9] * 8, 2, 30, 1, *[9] * 8, 2, 8, 1]) == (5, 16, 18)
    text = MessageEnds({1}, (30, 31, 32))
    assert text.find([1, *[9] * 8, 30, 31, 32, *[9] * 5, 30, 31]) == (5,)
    assert MessageEnds({1}, (30, 31)).find([*[9] * 8, 30, 31]) == ()
    assert MessageEnds({1}, ()).find([]) == ()
    assert MessageEnds({1}, ()).find([*[9] * 5, 1]) == (1,)


def test_what_closes_a_question_stands_behind_it_answered_or_not() -> None:
    asked, other = [1, 5, 7, 8, 9], [1, 6, 6, 7, 8, 9]
    assert closing(asked, other, [1, 5, 7, 8, 4, 2, 5, 7, 8, 9]) == (7, 8)
    assert closing(asked, other, [1, 3, 5, 7]) == ()
