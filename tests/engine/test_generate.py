"""One attempt from request to result, on tiny models."""

import hashlib
import json
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import pytest

from helpers.spelled import encode
from mh_batch.engine.fit.drop_plan import MARGIN
from mh_batch.engine.fit.fitter import context_limit
from mh_batch.engine.generate import Generator
from mh_batch.engine.harmony.special_tokens import spell
from mh_batch.engine.model.load import LoadedModel, load
from mh_batch.jobs.conversation import FunctionSpec, Message, Tool
from mh_batch.jobs.errors import PromptTooLong
from mh_batch.jobs.generation import (
    Channel,
    FinishReason,
    Generation,
    GenerationRequest,
    Parse,
    ParserTier,
    Prompt,
    StopReason,
    finish_reason,
)
from mh_batch.jobs.settings import Context, EngineOptions, Sampling


@pytest.fixture(scope="module")
def loaded(gpt_oss_folder: Path) -> LoadedModel:
    return load(str(gpt_oss_folder))


@pytest.fixture(scope="module")
def generator(loaded: LoadedModel) -> Generator:
    return Generator(loaded)


def request(text: str = "Hi", seed: int = 1, context: int | None = None, **sampling: Any) -> Any:
    return GenerationRequest(
        Prompt((Message("user", text),), "2025-06-30"),
        Sampling(**{"max_tokens": 8} | sampling),
        Context(max_context_tokens=context),
        seed,
    )


def run(generator: Generator, wanted: GenerationRequest) -> Generation:
    return generator.generate(wanted, lambda: False, lambda _: None)


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0},
        {"top_p": 0.9, "top_k": 50, "min_p": 0.001},
        {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2},
        {"xtc_probability": 0.5, "logit_bias": {"1000": 5.0}},
    ],
    ids=["plain", "greedy", "filters", "penalties", "xtc and bias"],
)
def test_the_same_request_gives_the_same_tokens_whatever_ran_before(
    generator: Generator, sampling: dict[str, Any]
) -> None:
    first = run(generator, request(**sampling))
    mx.random.seed(1234)
    run(generator, request("Another question", seed=9))
    again = run(generator, request(**sampling))
    assert again.tokens == first.tokens
    assert again.raw == first.raw


def test_another_seed_gives_other_tokens_unless_greedy(generator: Generator) -> None:
    assert run(generator, request(seed=1)).tokens != run(generator, request(seed=2)).tokens
    greedy = [run(generator, request(seed=seed, temperature=0)).tokens for seed in (1, 2)]
    assert greedy[0] == greedy[1]


def test_another_thread_gives_the_same_tokens(gpt_oss_folder: Path, generator: Generator) -> None:
    wanted = request(top_p=0.9, top_k=50, repetition_penalty=1.1)
    found: list[Generation] = []

    def work() -> None:
        found.append(run(Generator(load(str(gpt_oss_folder))), wanted))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert found[0].tokens == run(generator, wanted).tokens


def test_running_out_of_max_tokens_is_length_and_a_cut(generator: Generator) -> None:
    done = run(generator, request(max_tokens=5))
    assert len(done.tokens) == done.timings.completion_tokens == 5
    assert (done.stop_reason, done.finish_reason) == (StopReason.MAX_TOKENS, FinishReason.LENGTH)
    assert "truncated" in done.parse.problems


def test_a_stop_token_ends_the_stream_and_is_kept(loaded: LoadedModel) -> None:
    wanted = request(max_tokens=8)
    free = run(Generator(loaded), wanted)

    class StopsAtThird:
        def __getattr__(self, name: str) -> Any:
            return getattr(loaded.adapter, name)

        stop_tokens = frozenset({free.tokens[2]})

    stopped = run(Generator(loaded._replace(adapter=StopsAtThird())), wanted)
    assert stopped.tokens == free.tokens[:3]
    assert stopped.stop_reason is StopReason.STOP_TOKEN
    assert stopped.finish_reason is FinishReason.STOP


def test_a_cancel_ends_the_stream_within_a_token(generator: Generator) -> None:
    seen: list[int] = []
    done = generator.generate(request(max_tokens=100), lambda: len(seen) >= 3, seen.append)
    assert seen == [1, 2, 3]
    assert len(done.tokens) == 4
    assert done.finish_reason is FinishReason.CANCELLED
    assert "truncated" in done.parse.problems


def test_a_cancel_before_the_first_token_gives_an_empty_result(generator: Generator) -> None:
    done = generator.generate(request(), lambda: True, lambda _: None)
    assert done.tokens == ()
    assert done.stop_reason is StopReason.CANCELLED
    assert done.timings.tokens_per_second is None


def test_max_tokens_is_lowered_to_what_the_context_holds(generator: Generator) -> None:
    prompt_tokens = run(generator, request()).prompt_tokens
    done = run(generator, request(max_tokens=50, context=prompt_tokens + MARGIN + 4))
    assert len(done.tokens) == 4
    assert done.finish_reason is FinishReason.LENGTH


def test_a_prompt_that_leaves_no_room_is_an_error_with_both_numbers(generator: Generator) -> None:
    prompt_tokens = run(generator, request()).prompt_tokens
    context = prompt_tokens + MARGIN
    with pytest.raises(PromptTooLong, match=rf"have {prompt_tokens} tokens.* of {context}$"):
        run(generator, request(context=context))
    with pytest.raises(PromptTooLong, match=r"of 512$"):
        run(generator, request("hello " * 600))


def test_the_smaller_of_both_limits_counts() -> None:
    assert context_limit(Context(), None) is None
    assert context_limit(Context(max_context_tokens=10), None) == 10
    assert context_limit(Context(max_context_tokens=10), 5) == 5


def test_a_generation_says_how_many_turns_its_prompt_went_without(generator: Generator) -> None:
    turn = (Message("user", "hello " * 50), Message("assistant", "hello " * 50))
    wanted = request(max_tokens=4)
    last = wanted.prompt.messages
    long = msgspec.structs.replace(wanted.prompt, messages=turn * 6 + last)
    done = run(generator, msgspec.structs.replace(wanted, prompt=long))
    assert 0 < done.dropped_turns < 6
    assert done.prompt_tokens == done.timings.prompt_tokens < 512 - 4 - MARGIN
    short = Context(history_tokens=1)
    done = run(generator, msgspec.structs.replace(wanted, prompt=long, context=short))
    assert done.dropped_turns == 6
    assert done.prompt_sha256 == run(generator, wanted).prompt_sha256


def test_timings_and_the_prompts_hash_say_what_ran(
    generator: Generator, loaded: LoadedModel
) -> None:
    wanted = request(max_tokens=6)
    done = run(Generator(loaded), wanted)
    times = done.timings
    ids = loaded.adapter.render(wanted.prompt)
    assert done.prompt_sha256 == hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    assert times.prompt_tokens == times.prefill_tokens == done.prompt_tokens == len(ids)
    # the last token is in no cache: max_tokens was known to end the stream
    assert times.kv_len == len(ids) + 5
    assert times.reused_tokens == 0
    assert times.kv_layout == "KVCache×1+RotatingKVCache(16)×1"  # noqa: RUF001
    assert 0 < times.prefill_seconds <= times.first_token_seconds
    assert times.tokens_per_second == pytest.approx(5 / times.decode_seconds)
    assert min(times.render_seconds, times.parse_seconds) > 0
    assert times.peak_memory_bytes >= times.active_memory_bytes > 0
    assert times.process_memory_bytes > 0
    assert (times.repetition_window, times.max_kv_size) == (None, None)
    penalised = run(generator, request(repetition_penalty=1.2, repetition_window=64))
    assert penalised.timings.repetition_window == 64


def test_one_token_has_no_decode_speed(generator: Generator) -> None:
    assert run(generator, request(max_tokens=1)).timings.tokens_per_second is None


@pytest.mark.parametrize(("well_formed", "reason"), [(True, "tool_calls"), (False, "stop")])
def test_only_a_well_formed_call_finishes_with_tool_calls(well_formed: bool, reason: str) -> None:
    call = Channel("commentary", "{}", "functions.f", "json")
    parse = Parse(1, ParserTier.STRICT, well_formed, () if well_formed else ("x",), (call,))
    assert finish_reason(StopReason.STOP_TOKEN, parse) == reason
    assert finish_reason(StopReason.MAX_TOKENS, parse) == "length"


def test_a_llama_type_model_answers_through_its_chat_template(llama_folder: Path) -> None:
    loaded = load(str(llama_folder))
    assert (loaded.info.architecture, loaded.info.adapter) == ("llama", "native")
    assert loaded.info.context_tokens == 128
    done = run(Generator(loaded), request(max_tokens=6))
    assert done.raw == loaded.adapter.decode(done.tokens)
    assert done.timings.kv_layout == "KVCache×2"  # noqa: RUF001
    assert loaded.adapter.decode(loaded.adapter.render(request().prompt)) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert run(Generator(loaded), request(max_tokens=6)).tokens == done.tokens


def test_no_step_of_a_generation_uses_the_global_random_state(generator: Generator) -> None:
    mx.random.seed(3)
    expected = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed(3)
    run(generator, request(top_p=0.9, top_k=20, min_p=0.01))
    assert mx.random.uniform(shape=(4,)).tolist() == expected


def test_reuse_is_counted_and_changes_no_token(loaded: LoadedModel) -> None:
    fresh = Generator(loaded, EngineOptions(prefix_cache_bytes=0))
    reusing = Generator(loaded)
    wanted = request("Tell me more", max_tokens=6)
    runs = [run(reusing, wanted) for _ in range(3)]
    plain = [run(fresh, wanted) for _ in range(2)]
    assert len({done.tokens for done in runs + plain}) == 1
    total = runs[0].prompt_tokens
    found = [(done.timings.reused_tokens, done.timings.prefill_tokens) for done in runs]
    # the question is too short for a cut of its own
    prompt = loaded.adapter.render(wanted.prompt)
    end = loaded.adapter.prompt_parts(wanted.prompt, prompt).instructions
    assert found == [(0, total), (end, total - end), (end, total - end)]
    assert [done.timings.reused_tokens for done in plain] == [0, 0]


@pytest.mark.parametrize("folder", ["gpt_oss_folder", "llama_folder"])
def test_a_window_shows_in_the_timings_and_changes_nothing_before_it_fills(
    folder: str, request: pytest.FixtureRequest
) -> None:
    loaded = load(str(request.getfixturevalue(folder)))
    generator = Generator(loaded)
    ask = Prompt((Message("user", "Hi"),), "2025-06-30")
    length = len(loaded.adapter.render(ask))

    def done(tokens: int, size: int | None) -> Generation:
        sampling = Sampling(max_tokens=tokens, temperature=0)
        return run(generator, GenerationRequest(ask, sampling, Context(max_kv_size=size), 1))

    free, fits, slides = done(20, None), done(20, length + 20), done(20, max(32, length - 5))
    assert fits.tokens == free.tokens
    assert fits.timings.max_kv_size == length + 20
    assert f"WindowKVCache({length + 20}, keep 4)" in fits.timings.kv_layout
    assert fits.timings.kv_len == free.timings.kv_len == length + 19
    assert slides.timings.kv_len == max(32, length - 5)


def test_a_model_that_keeps_its_own_caches_has_no_window_in_its_timings(
    llama_folder: Path,
) -> None:
    loaded = load(str(llama_folder))
    # MiniMax-M3 is chosen by this name to keep its caches
    loaded.model.model_type = "minimax_m3_vl"
    wanted = msgspec.structs.replace(request(), context=Context(max_kv_size=32))
    done = run(Generator(loaded), wanted)
    assert done.timings.kv_layout == "KVCache×2"  # noqa: RUF001
    assert done.timings.max_kv_size is None


def test_a_stop_sequence_ends_the_answer_before_it(llama_folder: Path) -> None:
    loaded = load(str(llama_folder))
    generator = Generator(loaded)
    free = run(generator, request(max_tokens=40))
    text = free.parse.text("final") or ""
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    done = run(generator, request(max_tokens=40, stop=stop))
    assert done.parse.text("final") == text[: text.index(stop)]
    assert (done.stop_reason, done.finish_reason) == (StopReason.STOP_SEQUENCE, FinishReason.STOP)
    assert done.parse.well_formed
    assert done.tokens == free.tokens[: len(done.tokens)]
    assert stop in done.raw


@pytest.fixture(scope="module")
def quick(llama_folder: Path) -> Generator:
    """Of a model with few words, for many tokens."""
    llama = load(str(llama_folder))
    roomy = msgspec.structs.replace(llama.info, context_tokens=None)
    return Generator(llama._replace(info=roomy))


def test_a_loop_ends_the_stream_and_keeps_its_tokens(quick: Generator) -> None:
    for mode in ("cheap", "full"):
        done = run(quick, request(max_tokens=500, logit_bias={"5": 100}, loop_detection=mode))
        assert done.tokens == (5,) * 384
        assert done.stop_reason is StopReason.LOOP_DETECTED
        assert done.finish_reason is FinishReason.LENGTH
        assert done.timings.loop_detection_mode == mode


def test_nobody_watches_for_loops_if_they_are_switched_off(quick: Generator) -> None:
    done = run(quick, request(max_tokens=400, logit_bias={"5": 100}, loop_detection="off"))
    assert done.stop_reason is StopReason.MAX_TOKENS


def test_a_prompt_rendered_ahead_gives_the_same_result(generator: Generator) -> None:
    plain = run(generator, request(max_tokens=5))
    generator.prepare(request(max_tokens=5))
    assert run(generator, request(max_tokens=5)).tokens == plain.tokens
    generator.prepare(request(max_tokens=6))
    assert run(generator, request(max_tokens=5)).tokens == plain.tokens


def test_what_is_wrong_with_a_prompt_rendered_ahead_shows_when_it_comes(
    loaded: LoadedModel,
) -> None:
    class CannotRender:
        def __getattr__(self, name: str) -> Any:
            return getattr(loaded.adapter, name)

        def render(self, prompt: Prompt) -> list[int]:
            raise ArithmeticError(prompt.messages[0].content)

    generator = Generator(loaded._replace(adapter=CannotRender()))
    generator.prepare(request("a template that divides by zero"))
    with pytest.raises(ArithmeticError, match="divides by zero"):
        run(generator, request("a template that divides by zero"))


RESTARTED = """
import json, sys
from mh_batch.engine.generate import Generator
from mh_batch.engine.model.load import load
from mh_batch.jobs.generation import GenerationRequest
import msgspec
generator = Generator(load(sys.argv[1]))
for encoded in sys.argv[2:]:
    wanted = msgspec.json.decode(encoded, type=GenerationRequest)
    print(json.dumps(generator.generate(wanted, lambda: False, lambda _: None).tokens))
"""


def test_the_same_seed_gives_the_same_tokens_ten_times_in_any_order_and_after_a_restart(
    gpt_oss_folder: Path, generator: Generator
) -> None:
    wanted = [
        request("Hi", 1, top_p=0.9, max_tokens=4),
        request("Hi", 2, repetition_penalty=1.2, max_tokens=4),
        request("Something longer, for a change " * 8, 1, top_k=40, max_tokens=4),
        request("Hi", 1, xtc_probability=0.5, max_tokens=4),
    ]
    jobs = [index for index in range(len(wanted)) for _ in range(10)]
    random.Random(5).shuffle(jobs)
    found: dict[int, set[tuple[int, ...]]] = {}
    for index in jobs:
        found.setdefault(index, set()).add(run(generator, wanted[index]).tokens)
    assert [len(found[index]) for index in range(len(wanted))] == [1, 1, 1, 1]
    encoded = [msgspec.json.encode(request).decode() for request in wanted]
    command = [sys.executable, "-c", RESTARTED, str(gpt_oss_folder), *encoded]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    for index, line in enumerate(done.stdout.splitlines()):
        assert found.pop(index) == {tuple(json.loads(line))}
    assert not found


@pytest.fixture(scope="module")
def demo() -> Generator:
    return Generator(load("demo"))


def test_the_demo_model_does_a_sum_in_proper_harmony(demo: Generator) -> None:
    done = run(demo, request("What is 17 + 25?", max_tokens=300, temperature=0))
    assert "42" in (done.parse.text("final") or "")
    assert done.parse.text("analysis")
    assert (done.parse.tier, done.parse.problems) == (ParserTier.STRICT, ())
    assert done.finish_reason is FinishReason.STOP


# ---- forced finals

FINAL = "<|channel|>final<|message|>"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def forced(wanted: GenerationRequest, tokens: tuple[int, ...], **fields: Any) -> GenerationRequest:
    return msgspec.structs.replace(wanted, forced_final=tokens, render=True, **fields)


@pytest.fixture(scope="module")
def lost(demo: Generator) -> tuple[GenerationRequest, Generation]:
    """A question over which the demo model only thinks, and what comes of it."""
    wanted = request("Think for a long time about rivers.", max_tokens=40, temperature=0)
    done = run(demo, wanted)
    assert (done.stop_reason, done.response_prefill, done.rendered) == (
        StopReason.MAX_TOKENS,
        (),
        None,
    )
    assert set(done.parse.problems) == {"truncated", "no_final", "analysis_not_ended"}
    return wanted, done


def test_a_forced_final_answers_from_the_thoughts_of_an_attempt_that_only_thought(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    done = run(demo, forced(wanted, first.tokens))
    end = encode("<|end|><|start|>assistant<|channel|>final<|message|>")
    assert done.response_prefill == (*first.tokens, *end)
    assert done.raw == "I thought about rivers.<|return|>"
    assert list(done.tokens) == encode(done.raw)
    assert (done.parse.tier, done.parse.problems) == (ParserTier.STRICT, ())
    assert done.parse.text("final") == "I thought about rivers."
    assert done.parse.text("analysis") == first.parse.text("analysis")
    assert done.finish_reason is FinishReason.STOP
    assert done.timings.completion_tokens == len(done.tokens) < 12


def test_the_prefill_counts_as_prompt_and_is_hashed_and_shown_with_it(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    done = run(demo, forced(wanted, first.tokens))
    ids = [*demo._adapter.render(wanted.prompt), *done.response_prefill]
    assert done.prompt_tokens == done.timings.prompt_tokens == len(ids)
    assert done.prompt_sha256 == hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    assert done.rendered is not None
    assert list(done.rendered.tokens) == ids
    assert done.rendered.text == spell(ids)
    assert done.rendered.text.endswith(f"{first.raw}<|end|><|start|>assistant{FINAL}")


def test_a_forced_final_reuses_its_turns_prompt_and_gives_the_same_tokens_without_reuse(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    again = forced(wanted, first.tokens, context=Context(prefill_step=16))
    found = [run(demo, again) for _ in range(2)]
    # of the first attempt's prompt nothing is read again, nor of the thoughts but their last few
    assert first.prompt_tokens < found[1].timings.reused_tokens
    fresh = run(Generator(load("demo"), EngineOptions(prefix_cache_bytes=0)), again)
    assert {done.tokens for done in [*found, fresh]} == {fresh.tokens}
    assert fresh.timings.reused_tokens == 0


def test_a_forced_final_rendered_ahead_is_taken_for_that_one_only(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    demo.prepare(forced(wanted, first.tokens))
    assert run(demo, forced(wanted, first.tokens)).response_prefill
    demo.prepare(forced(wanted, first.tokens))
    assert run(demo, wanted).response_prefill == ()
    demo.prepare(forced(wanted, first.tokens))
    shorter = run(demo, forced(wanted, first.tokens[:-6]))
    assert shorter.response_prefill[: len(first.tokens) - 6] == first.tokens[:-6]
    assert len(shorter.response_prefill) < len(first.tokens) + 6


def test_a_stop_sequence_ends_a_forced_answer_but_not_the_thoughts_before_it(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    stopping = msgspec.structs.replace(wanted.sampling, stop=" rivers")
    done = run(demo, forced(wanted, first.tokens, sampling=stopping))
    assert done.stop_reason is StopReason.STOP_SEQUENCE
    assert (done.parse.text("final"), done.parse.problems) == ("I thought about", ())
    assert " rivers" in (done.parse.text("analysis") or "")


def test_penalties_of_a_forced_final_see_its_prefill(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    # of all that stands in the last tokens of the prompt none may come again
    forbidding = msgspec.structs.replace(
        wanted.sampling, presence_penalty=2.0, repetition_penalty=10.0, repetition_window=400
    )
    done = run(demo, forced(wanted, first.tokens, sampling=forbidding))
    plain = run(demo, forced(wanted, first.tokens))
    rivers = encode(" rivers")[0]
    assert rivers in plain.tokens
    assert rivers in done.response_prefill
    assert rivers not in done.tokens


def test_a_forced_final_stays_within_the_context(
    demo: Generator, lost: tuple[GenerationRequest, Generation]
) -> None:
    wanted, first = lost
    prompt_tokens = first.prompt_tokens
    tight = Context(max_context_tokens=prompt_tokens + MARGIN + 32)
    done = run(demo, forced(wanted, first.tokens, context=tight))
    assert len(done.response_prefill) == 16
    assert done.max_tokens == 16
    assert done.prompt_tokens + done.max_tokens + MARGIN == tight.max_context_tokens
    assert done.parse.text("analysis") != first.parse.text("analysis")


def test_no_final_is_forced_from_tokens_that_hold_an_answer(
    demo: Generator, llama_folder: Path
) -> None:
    answer = run(demo, request("What is 17 + 25?", max_tokens=80, temperature=0))
    wanted = request("Hi", max_tokens=2)
    assert run(demo, forced(wanted, answer.tokens)).response_prefill == ()
    assert run(Generator(load(str(llama_folder))), forced(wanted, (1, 2, 3))).response_prefill == ()


def test_the_prompt_comes_along_where_it_is_asked_for(llama_folder: Path) -> None:
    loaded = load(str(llama_folder))
    wanted = request("Hé <|im_end|>", max_tokens=2)
    assert run(Generator(loaded), wanted).rendered is None
    found = run(Generator(loaded), msgspec.structs.replace(wanted, render=True)).rendered
    assert found is not None
    assert list(found.tokens) == loaded.adapter.render(wanted.prompt)
    assert found.text == "<|im_start|>user\nHé <|im_end|><|im_end|>\n<|im_start|>assistant\n"


def test_a_call_of_a_function_that_nobody_declared_is_not_well_formed(demo: Generator) -> None:
    tools = tuple(Tool(FunctionSpec(name, "The weather.", CITY)) for name in ("lookup", "get_time"))
    wanted = request("What is the weather in Paris?", max_tokens=70, temperature=0)
    prompt = msgspec.structs.replace(wanted.prompt, tools=tools)
    done = run(demo, msgspec.structs.replace(wanted, prompt=prompt))
    # with two functions of strange names the demo model calls a third
    (call,) = done.parse.calls
    assert call.recipient not in ("functions.lookup", "functions.get_time")
    assert (done.parse.problems, done.finish_reason) == (("unknown_tool",), FinishReason.STOP)
    one = msgspec.structs.replace(wanted.prompt, tools=tools[1:])
    done = run(demo, msgspec.structs.replace(wanted, prompt=one))
    assert [call.recipient for call in done.parse.calls] == ["functions.get_time"]
    assert (done.parse.problems, done.finish_reason) == ((), FinishReason.TOOL_CALLS)
