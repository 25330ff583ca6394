"""A retry and a later turn read little of what an earlier prompt has read, on both adapters."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.models import gpt_oss, llama

from helpers.small_models import GPT_OSS, LLAMA, random_model
from mh_batch.engine.adapter import Adapter
from mh_batch.engine.chat_template.adapter import NativeAdapter
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.model.load import LoadedModel, load
from mh_batch.jobs.conversation import FunctionCall, Message, ToolCall
from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import Context, EngineOptions, Sampling

Make = Callable[[str, str], NativeAdapter]
Family = tuple[str, ...]

MOST_READ = 64
"""How many of an earlier prompt's tokens may be read again."""

GUIDANCE = (
    "The last attempt repeated itself. Do not repeat words or lines. "
    "Be brief and end with a final answer.",
    "The last attempt called a function wrongly. Call only the functions that there are, with all "
    "arguments that they require.",
)
# of the kind that MT-Bench asks: from a line to a page, the second on the answer to the first
QUESTIONS = (
    (
        "Compose an engaging travel blog post about a recent trip to Hawaii, highlighting cultural "
        "experiences and must-see attractions.",
        "Rewrite your previous response. Start every sentence with the letter A.",
    ),
    (
        "Imagine you are participating in a race with a group of people. If you have just "
        "overtaken the second person, what's your current position? Where is the person you just "
        "overtook?",
        'If the "second person" is changed to "last person" in the above question, what would the '
        "answer be?",
    ),
    ("Solve for x in the equation 3x + 10 = 5(x - 2).", "Why?"),
    (
        "Given these categories - Literature, History, Science, and Art. Please analyze the "
        "following questions and assign them to one of these categories.\n\nIn your response, "
        "refrain from uttering any extraneous words. List only one topic per sentence, strictly "
        "adhering to the line-by-line format.\n\n- Discuss the main themes and stylistic "
        "techniques employed by Leo Tolstoy in 'War and Peace.'\n- Analyze the geopolitical "
        "strategies and domestic policies adopted by the US President during World War II.\n"
        "- Draw the Lewis structure for water and explain the nature of its polarity.\n" * 2,
        "Amend your earlier answer by mentioning a person who is most relevant to each point.",
    ),
    ("", "!!!\n\n\n"),
)
SHORT = (
    "Hi", "How are you?", "Tell me a joke about a river", "Another one, please.", "Why is it funny",
    "ok", "What is 17 + 25?", "And twice that?", "Thank you!", "Bye",
)  # fmt: skip
REPLIES = (
    "Hello!", "Fine.", "A river never runs out of banks, and it has a mouth but does not talk.",
    "What runs but never walks? A river does, from the hill down to the sea, all day and night.",
    "It plays with words.", "Good", "42", "84", "You are welcome.", "See you",
)  # fmt: skip

FAMILIES: tuple[Family, ...] = (
    ("harmony",),
    *(
        ("native", kind, template)
        for kind in ("byte level", "metaspace")
        for template in ("ChatML", "Llama-3", "Mistral, no system role", "Qwen, opens thinking")
    ),
    ("native", "byte level", "no control tokens"),
    ("native", "metaspace", "no control tokens"),
)


@pytest.fixture(scope="module", params=FAMILIES, ids=" ".join)
def loaded(request: pytest.FixtureRequest, native: Make) -> LoadedModel:
    """A model of random weights with the adapter of one family."""
    adapter: Adapter
    if request.param[0] == "harmony":
        model, adapter = random_model(gpt_oss, GPT_OSS), HarmonyAdapter()
    else:
        model, adapter = random_model(llama, LLAMA), native(*request.param[1:])
    info = msgspec.structs.replace(load("demo").info, context_tokens=None)
    return LoadedModel(model, adapter, info)


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))


def turns(asked: Sequence[str], replies: Sequence[str]) -> Iterator[tuple[Message, ...]]:
    """The messages of each turn's prompt."""
    texts: list[str] = []
    for question, reply in zip(asked, replies, strict=True):
        yield said(*texts, question)
        texts += (question, reply)


class Reader:
    """A generator that is asked for one token of each prompt."""

    def __init__(self, loaded: LoadedModel, **context: Any) -> None:
        self.generator = Generator(loaded, EngineOptions(prefix_cache_bytes=1 << 30))
        self.context = Context(**context)

    def read(self, messages: tuple[Message, ...], guidance: str | None = None) -> tuple[int, int]:
        """Return how many tokens a prompt has, and how many of them were reused."""
        prompt = Prompt(messages, "2025-06-30", guidance=guidance)
        request = GenerationRequest(prompt, Sampling(max_tokens=1), self.context, 1)
        times = self.generator.generate(request, lambda: False, lambda _: None).timings
        return times.prompt_tokens, times.reused_tokens


@pytest.mark.parametrize("system", [None, "Be brief.", "You are a helpful assistant. " * 20])
def test_an_identical_retry_finds_the_state_of_the_first_attempt(
    loaded: LoadedModel, system: str | None
) -> None:
    reader = Reader(loaded)
    for question, _ in QUESTIONS:
        messages = (*([Message("system", system)] if system else []), Message("user", question))
        length, _ = reader.read(messages)
        assert length - reader.read(messages)[1] <= MOST_READ


def test_a_retry_with_guidance_and_one_with_other_guidance_find_it_too(
    loaded: LoadedModel,
) -> None:
    reader = Reader(loaded)
    for question, _ in QUESTIONS:
        length, _ = reader.read(said(question))
        guided, reused = reader.read(said(question), GUIDANCE[0])
        assert guided > length
        assert length - reused <= MOST_READ
        assert guided - reader.read(said(question), GUIDANCE[0])[1] <= MOST_READ
        assert length - reader.read(said(question), GUIDANCE[1])[1] <= MOST_READ


def test_an_attempt_without_guidance_finds_the_state_of_one_with_it(loaded: LoadedModel) -> None:
    reader = Reader(loaded)
    for question, _ in QUESTIONS:
        reader.read(said(question), GUIDANCE[0])
        length, reused = reader.read(said(question))
        assert length - reused <= MOST_READ


@pytest.mark.parametrize("step", [512, 40, 16])
def test_a_second_turn_finds_the_state_of_the_first(loaded: LoadedModel, step: int) -> None:
    reader = Reader(loaded, prefill_step=step)
    for question, follow in QUESTIONS:
        length, _ = reader.read(said(question))
        assert length - reader.read(said(question, "It is so. " * 9, follow))[1] <= MOST_READ


@pytest.mark.parametrize("guided", [False, True])
def test_ten_turns_of_short_messages_each_find_the_state_of_the_one_before(
    loaded: LoadedModel, guided: bool
) -> None:
    reader = Reader(loaded)
    before = 0
    for messages in turns(SHORT, REPLIES):
        length, reused = reader.read(messages)
        assert before - reused <= MOST_READ
        if guided:
            assert length - reader.read(messages, GUIDANCE[0])[1] <= MOST_READ
        assert length - reader.read(messages)[1] <= MOST_READ
        before = length
    assert before > 200


def test_a_conversation_that_begins_in_the_middle_is_reused_from_its_second_prompt(
    loaded: LoadedModel,
) -> None:
    reader = Reader(loaded)
    prompts = list(turns(SHORT, REPLIES))
    length, reused = reader.read(prompts[6])
    assert reused == 0
    for messages in prompts[7:]:
        longer, reused = reader.read(messages)
        assert length - reused <= MOST_READ
        length = longer


def test_a_turn_behind_a_tool_chain_is_read_anew_from_the_first_thought_on() -> None:
    loaded = load("demo")
    reader = Reader(loaded)
    call = ToolCall("1", FunctionCall("lookup", '{"city": "Paris"}'))
    question = Message("user", "What is the weather in Paris, and what is it in other cities? " * 3)
    chain = (
        Message("assistant", "", thinking="I look that up. " * 9, tool_calls=(call,)),
        Message("tool", "Sunny, 21 degrees. " * 9, tool_call_id="1"),
    )
    asked, _ = reader.read((question,))
    second, reused = reader.read((question, *chain))
    assert asked - reused <= MOST_READ
    third, reused = reader.read((question, *chain, *chain))
    assert second - reused <= MOST_READ
    # its thoughts are in no later prompt
    later = (question, *chain, *chain, Message("assistant", "Sunny."), Message("user", "Thanks"))
    length, reused = reader.read(later)
    assert asked - MOST_READ <= reused < asked
    assert length < third + 30


GRIDS = ((512, None), (64, 32), (20, None), (20, 32))
"""Tokens in a chunk, and in the window."""


def test_the_tokens_are_those_without_reuse(
    loaded: LoadedModel, request: pytest.FixtureRequest
) -> None:
    # Harmony has all grids; two families of chat templates, and those of one kind, differ in theirs
    number = FAMILIES.index(request.node.callspec.params["loaded"])
    for step, window in [GRIDS[number % len(GRIDS)]] if number else GRIDS:
        compare(loaded, step, window)


def compare(loaded: LoadedModel, step: int, window: int | None) -> None:
    """Check what is drawn with reuse, of prompts of three turns, with guidance and without."""

    def run(generator: Generator, prompt: Prompt) -> tuple[int, ...]:
        context = Context(prefill_step=step, max_kv_size=window)
        request = GenerationRequest(prompt, Sampling(max_tokens=3), context, 1)
        return generator.generate(request, lambda: False, lambda _: None).tokens

    fresh = Generator(loaded, EngineOptions(prefix_cache_bytes=0))
    reusing = Generator(loaded, EngineOptions(prefix_cache_bytes=1 << 30))
    for messages in list(turns(SHORT, REPLIES))[1:6:2]:
        prompts = [Prompt(messages, "2025-06-30", guidance=guided) for guided in (None, *GUIDANCE)]
        expected = [run(fresh, prompt) for prompt in prompts]
        for prompt, tokens in zip(prompts + prompts[:1], expected + expected[:1], strict=True):
            assert run(reusing, prompt) == tokens
    mx.clear_cache()
