"""An answer that was cut and went on reads, stops and counts as if it had been drawn at once."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.scripted_model import scripted
from helpers.spelled import encode
from mh_batch.engine.completion_reader import Completion, CompletionReader
from mh_batch.engine.fit.drop_plan import MARGIN
from mh_batch.engine.fit.fitter import Fitted, continued, remaining_room
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.special_tokens import is_utf8
from mh_batch.engine.model.load import LoadedModel, load
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.generation import (
    Continuation,
    FinishReason,
    Generation,
    GenerationRequest,
    Prompt,
    StopReason,
)
from mh_batch.jobs.settings import Context, EngineOptions, Sampling

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = Tool(FunctionSpec("get_weather", "The weather in a city.", CITY))
THOUGHT = "<|channel|>analysis<|message|>Höhe 🏔️ of K2?<|end|><|start|>assistant"
ANSWER = f"{THOUGHT}<|channel|>final<|message|>8,611 m ⛰🧗🏽, I think.<|return|>"
CALL = (
    f"{THOUGHT} to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>"
    '{"city": "Skardu 🏔"}<|call|>'
)


@pytest.fixture(scope="module")
def loaded(gpt_oss_folder: Path) -> LoadedModel:
    return load(str(gpt_oss_folder))


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> LoadedModel:
    return load(str(llama_folder))


@pytest.fixture(scope="module")
def demo() -> Generator:
    return Generator(load("demo"))


def request(text: str = "Hi", context: int | None = None, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        Prompt((Message("user", text),), "2025-06-30", (TOOL,)),
        Sampling(**{"max_tokens": 100, "temperature": 0} | sampling),
        Context(max_context_tokens=context),
        seed=5,
    )


def run(generator: Generator, wanted: GenerationRequest) -> Generation:
    return generator.generate(wanted, lambda: False, lambda _: None)


def cut_at(wanted: GenerationRequest, tokens: int) -> GenerationRequest:
    sampling = msgspec.structs.replace(wanted.sampling, max_tokens=tokens)
    return msgspec.structs.replace(wanted, sampling=sampling)


def going_on(wanted: GenerationRequest, first: Generation, more: int = 60) -> GenerationRequest:
    return msgspec.structs.replace(wanted, continues=Continuation(first.tokens, more))


def in_two_parts(
    generator: Generator, wanted: GenerationRequest, whole: Generation
) -> Iterator[tuple[Generation, Generation]]:
    """An answer cut behind every token of it but the last, and what goes on from there."""
    for tokens in range(1, len(whole.tokens)):
        shorter = cut_at(wanted, tokens)
        first = run(generator, shorter)
        assert first.stop_reason is StopReason.MAX_TOKENS
        assert first.tokens == whole.tokens[:tokens]
        yield first, run(generator, going_on(shorter, first))


def assert_one(first: Generation, rest: Generation, whole: Generation) -> None:
    assert first.tokens + rest.tokens == whole.tokens
    assert rest.response_prefill == first.tokens
    assert (rest.stop_reason, rest.finish_reason) == (whole.stop_reason, whole.finish_reason)
    assert rest.parse == whole.parse


@pytest.mark.parametrize(
    ("text", "reason"), [(ANSWER, FinishReason.STOP), (CALL, FinishReason.TOOL_CALLS)]
)
def test_an_answer_cut_anywhere_reads_in_two_parts_as_in_one(
    loaded: LoadedModel, text: str, reason: FinishReason
) -> None:
    wanted, script = request(), encode(text)
    generator = scripted(loaded, wanted, script)
    whole = run(generator, wanted)
    assert (whole.tokens, whole.finish_reason) == (tuple(script), reason)
    assert whole.parse.well_formed
    characters = 0
    for first, rest in in_two_parts(generator, wanted, whole):
        assert_one(first, rest, whole)
        characters += not is_utf8([t for t in first.tokens if t < 199_998])
        # what is told of an attempt is what it drew itself
        assert rest.timings.completion_tokens == len(rest.tokens)
        assert rest.prompt_tokens == rest.timings.prompt_tokens
        assert rest.prompt_tokens == whole.prompt_tokens + len(first.tokens)
        stored = Completion(
            rest.tokens, rest.stop_reason, rest.response_prefill, (), wanted.prompt.tools
        )
        assert CompletionReader("harmony", "any").read(stored, rest.raw) == whole.parse
    assert characters >= 3


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.7},
        {"top_p": 0.9, "top_k": 50, "min_p": 0.001},
        {"presence_penalty": 2.0, "frequency_penalty": 1.0, "repetition_window": 9},
        {"repetition_penalty": 1.5, "logit_bias": {"7": 9.0, "8": 9.0, "9": 9.0}},
        {"xtc_probability": 0.5, "xtc_threshold": 0.001, "logit_bias": {"7": 6.0}},
    ],
    ids=["plain", "filters", "additive penalties", "penalty and bias", "xtc and bias"],
)
def test_the_numbers_of_tokens_and_the_penalties_go_on_behind_the_first_part(
    llama: LoadedModel, sampling: dict[str, Any]
) -> None:
    wanted = request(**{"max_tokens": 24, "temperature": 1.0} | sampling)
    generator = scripted(llama, wanted, ())
    whole = run(generator, wanted)
    for tokens in (1, 4, 12, 23):
        first = run(generator, cut_at(wanted, tokens))
        rest = run(generator, going_on(cut_at(wanted, tokens), first, 24 - tokens))
        assert_one(first, rest, whole)


@pytest.mark.parametrize("stop", ["two, three", " th", "thr", "é!", "🧗🏽"])
def test_a_stop_text_is_found_across_the_seam(loaded: LoadedModel, stop: str) -> None:
    answer = (
        f"{THOUGHT}<|channel|>final<|message|>one, two, three é! 🧗🏽 and four, five.<|return|>"
    )
    wanted, script = request(stop=stop), encode(answer)
    generator = scripted(loaded, wanted, script)
    whole = run(generator, wanted)
    assert (whole.stop_reason, whole.parse.problems) == (StopReason.STOP_SEQUENCE, ())
    assert whole.parse.text("final") == "one, two, three é! 🧗🏽".partition(stop)[0]
    for first, rest in in_two_parts(generator, wanted, whole):
        assert_one(first, rest, whole)


@pytest.mark.parametrize("mode", ["cheap", "full"])
def test_a_loop_is_found_where_it_would_have_been_in_one_part(
    loaded: LoadedModel, mode: Any
) -> None:
    text = "<|channel|>analysis<|message|>" + " round and round it goes" * 200
    wanted, script = request(max_tokens=700, loop_detection=mode), encode(text)
    roomy = loaded._replace(info=msgspec.structs.replace(loaded.info, context_tokens=None))
    generator = scripted(roomy, wanted, script)
    whole = run(generator, wanted)
    assert whole.stop_reason is StopReason.LOOP_DETECTED
    for tokens in (1, len(whole.tokens) // 2, len(whole.tokens) - 1):
        first = run(generator, cut_at(wanted, tokens))
        assert first.stop_reason is StopReason.MAX_TOKENS
        assert_one(first, run(generator, going_on(cut_at(wanted, tokens), first, 700)), whole)


def test_what_is_cut_again_is_cut_as_a_longer_answer_is(loaded: LoadedModel) -> None:
    wanted = request(max_tokens=12)
    generator = scripted(loaded, wanted, encode(ANSWER))
    first = run(generator, wanted)
    rest = run(generator, going_on(wanted, first, 6))
    assert (rest.max_tokens, len(rest.tokens)) == (6, 6)
    assert_one(first, rest, run(generator, cut_at(wanted, 18)))


def test_a_model_without_harmony_goes_on_too(llama: LoadedModel) -> None:
    answer = "<think>the user asks 🏔</think>hello there 🏔"
    script = [*llama.adapter._tokenizer.encode(answer), *llama.adapter.stop_tokens]  # type: ignore[attr-defined]
    wanted = request()
    generator = scripted(llama, wanted, script)
    whole = run(generator, wanted)
    assert (whole.parse.text("analysis"), whole.parse.problems) == ("the user asks 🏔", ())
    for first, rest in in_two_parts(generator, wanted, whole):
        assert_one(first, rest, whole)


def test_what_goes_on_equals_itself_whatever_ran_before(demo: Generator) -> None:
    wanted = request("Count from 1 to 30.", max_tokens=40, context=400)
    first = run(demo, wanted)
    assert first.stop_reason is StopReason.MAX_TOKENS
    again = going_on(wanted, first, 20)
    found = [run(demo, again)]
    run(demo, request("What is 2 + 2?"))
    demo.prepare(again)
    found.append(run(demo, again))
    found.append(run(Generator(load("demo"), EngineOptions(prefix_cache_bytes=0)), again))
    assert {done.tokens for done in found} == {found[0].tokens}
    assert found[1].timings.reused_tokens > found[2].timings.reused_tokens == 0
    assert found[0].prompt_tokens == first.prompt_tokens + len(first.tokens)


def conversation(turns: int, context: int, max_tokens: int) -> GenerationRequest:
    """A conversation that the context does not hold all of."""
    said = [("user", "What is 2 + 2?"), ("assistant", "2 + 2 = 4")] * turns
    messages = (*(Message(role, text) for role, text in said), Message("user", "Count to 300."))  # type: ignore[arg-type]
    return GenerationRequest(
        Prompt(messages, "2025-06-30"),
        Sampling(max_tokens=max_tokens, temperature=0),
        Context(max_context_tokens=context),
        seed=5,
    )


def test_what_goes_on_fits_exactly_where_the_first_part_told_that_there_is_room(
    demo: Generator,
) -> None:
    outcomes = set()
    for context in range(150, 195, 9):
        wanted = conversation(8, context, 8)
        first = run(demo, wanted)
        assert first.stop_reason is StopReason.MAX_TOKENS
        assert first.dropped_turns
        rest = run(demo, going_on(wanted, first, 10))
        assert rest.dropped_turns == first.dropped_turns
        assert first.room is not None
        fits = first.room >= 10
        outcomes.add(fits)
        assert rest.response_prefill == (first.tokens if fits else ())
        if fits:
            assert rest.room == first.room - 10
            assert rest.prompt_tokens == first.prompt_tokens + len(first.tokens)
            assert rest.prompt_tokens + 10 + MARGIN <= context
        else:
            assert (rest.prompt_sha256, rest.max_tokens) == (first.prompt_sha256, first.max_tokens)
    assert outcomes == {True, False}


def test_where_nothing_limits_the_context_there_is_always_room(llama: LoadedModel) -> None:
    unlimited = llama._replace(info=msgspec.structs.replace(llama.info, context_tokens=None))
    assert run(Generator(unlimited), request(max_tokens=4)).room is None


@given(
    st.integers(0, 90),
    st.integers(1, 40),
    st.integers(0, 5),
    st.integers(1, 40),
    st.integers(1, 150),
)
def test_nothing_is_ever_cut_so_that_an_answer_can_continued(
    prompt: int, had: int, dropped: int, more: int, limit: int
) -> None:
    tokens = random.Random(1).sample(range(1000), prompt)
    asked = Prompt((Message("user", "x"),), "2026-01-02")
    fitted, answer = Fitted(tokens, had, dropped, (), asked), tuple(range(had))
    found = continued(fitted, Continuation(answer, more), limit)
    room = remaining_room(fitted, limit)
    assert room is not None
    if room >= more:
        assert found == Fitted([*tokens, *answer], more, dropped, answer, asked)
        assert len(found.tokens) + more + MARGIN <= limit
    else:
        assert found == fitted
