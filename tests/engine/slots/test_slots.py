"""In slots, an attempt gives the same tokens whatever runs beside it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import pytest
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import gpt_oss

from helpers.small_models import GPT_OSS, random_model
from mh_batch.engine.attempt import AttemptPlan
from mh_batch.engine.generate import Generator
from mh_batch.engine.model.load import LoadedModel, load
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import (
    Continuation,
    Generation,
    GenerationRequest,
    Prompt,
    StopReason,
)
from mh_batch.jobs.settings import Context, EngineOptions, Sampling

COUNT = 4

WORDS = ("hello", "there", "the", "user", "asks", "what", "is", "the", "answer", "it", "model")
# each beside others of all kinds; prompts of 1 to 3 sliding windows and more than one chunk
WANTED: tuple[tuple[int, dict[str, Any], dict[str, Any]], ...] = (
    (2, {"max_tokens": 24}, {}),
    (6, {"max_tokens": 9, "temperature": 0}, {}),
    (9, {"max_tokens": 20, "repetition_penalty": 1.3, "presence_penalty": 0.4}, {}),
    (4, {"max_tokens": 30, "temperature": 0.7}, {"max_kv_size": 32, "kv_keep": 4}),
    (1, {"max_tokens": 12, "xtc_probability": 0.5, "logit_bias": {"100": 5.0}}, {}),
    (7, {"max_tokens": 16, "top_p": 0.9, "top_k": 50, "min_p": 0.001}, {}),
    (3, {"max_tokens": 22}, {}),
    (5, {"max_tokens": 18, "temperature": 0}, {"prefill_step": 16}),
    (3, {"max_tokens": 40, "stop": ["e", "a"], "loop_detection": "full"}, {}),
)

ALL = range(len(WANTED))
Answers = dict[int, Generation]


def request(number: int, count: int = COUNT) -> GenerationRequest:
    words, sampling, context = WANTED[number]
    text = " ".join(WORDS[(number + i) % len(WORDS)] for i in range(words))
    return GenerationRequest(
        Prompt((Message("user", text),), "2025-06-30"),
        Sampling(**{"loop_detection": "off"} | sampling),
        Context(**context),
        seed=number,
        parallel=count,
    )


def drain(
    generator: Generator,
    order: Iterable[int],
    *,
    arrivals: Mapping[int, int] | None = None,
    cancelled: Callable[[int, int], bool] = lambda _number, _tokens: False,
    count: int = COUNT,
) -> Answers:
    """Run requests side by side; `arrivals` says at which step one comes, if not at once."""
    slots, answers = generator.slots(count), {}
    tokens = dict.fromkeys(ALL, 0)

    def add(number: int) -> None:
        slots.add(
            number,
            request(number, count),
            lambda: cancelled(number, tokens[number]),
            lambda made: tokens.__setitem__(number, made),
        )

    late = dict(arrivals or {})
    for number in order:
        if number not in late:
            add(number)
    step = 0
    while slots.busy or late:
        for number in [number for number, at in late.items() if at <= step]:
            del late[number]
            add(number)
        for answer in slots.step():
            assert isinstance(answer.outcome, Generation), answer.outcome
            answers[answer.id] = answer.outcome
        step += 1
    return answers


def tokens_of(answers: Answers) -> dict[int, tuple[int, ...]]:
    return {number: answers[number].tokens for number in sorted(answers)}


@pytest.fixture(scope="module", params=["gpt_oss", "llama"])
def loaded(request: pytest.FixtureRequest, llama_folder: Path) -> LoadedModel:
    """Two architectures with one small vocabulary, whose words are soon drawn."""
    llama = load(str(llama_folder))
    if request.param == "llama":
        return llama
    small = random_model(gpt_oss, GPT_OSS | {"vocab_size": llama.model.args.vocab_size})
    return llama._replace(model=small)


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> Answers:
    """Each request by itself, all other slots idle."""
    generator = Generator(loaded)
    return {n: drain(generator, [n])[n] for n in ALL}


@pytest.mark.parametrize("reuse", [None, 0], ids=["snapshots", "no snapshots"])
@pytest.mark.parametrize("order", [ALL, (7, 0, 8, 6, 1, 5, 2, 4, 3)], ids=["ascending", "mixed"])
def test_neighbours_slots_and_order_change_no_token(
    loaded: LoadedModel, alone: Answers, order: Sequence[int], reuse: int | None
) -> None:
    generator = Generator(loaded, EngineOptions(prefix_cache_bytes=reuse))
    assert tokens_of(drain(generator, order)) == tokens_of(alone)
    # once more, from the snapshots if there are any
    assert tokens_of(drain(generator, order)) == tokens_of(alone)


def test_an_answer_that_was_cut_goes_on_beside_others_as_alone(
    loaded: LoadedModel, alone: Answers
) -> None:
    so_far = Continuation(alone[0].tokens[:10], 12)
    going_on = msgspec.structs.replace(request(0), continues=so_far)

    def answer(*beside: int) -> Generation:
        slots = Generator(loaded).slots(COUNT)
        found: dict[int, Generation | Exception] = {}
        for number in beside:
            slots.add(number, request(number), lambda: False, lambda _: None)
        slots.add(99, going_on, lambda: False, lambda _: None)
        while slots.busy:
            found.update(dict(slots.step()))
        made = found[99]
        assert isinstance(made, Generation)
        return made

    first = answer()
    assert first.response_prefill == so_far.tokens
    assert answer(3, 1).tokens == first.tokens


def test_arrival_in_the_middle_of_others_changes_no_token(
    loaded: LoadedModel, alone: Answers
) -> None:
    arrivals = {1: 3, 4: 7, 5: 7, 7: 40}
    together = drain(Generator(loaded), ALL, arrivals=arrivals)
    assert tokens_of(together) == tokens_of(alone)


def test_a_cancelled_neighbour_changes_no_token(loaded: LoadedModel, alone: Answers) -> None:
    together = drain(
        Generator(loaded),
        ALL,
        cancelled=lambda number, made: number == 3 and made >= 5,
    )
    cut = together.pop(3)
    assert cut.stop_reason is StopReason.CANCELLED
    assert cut.tokens == alone[3].tokens[: len(cut.tokens)]
    assert len(cut.tokens) == 6
    assert tokens_of(together) == {n: t for n, t in tokens_of(alone).items() if n != 3}


def test_little_memory_makes_conversations_wait_and_changes_no_token(
    loaded: LoadedModel, alone: Answers
) -> None:
    generator = Generator(loaded, EngineOptions(kv_bytes=0))
    together = drain(generator, ALL)
    assert tokens_of(together) == tokens_of(alone)
    assert {answer.timings.rows for answer in together.values()} == {1.0}


def test_the_device_time_of_all_is_shared_among_the_busy_rows(loaded: LoadedModel) -> None:
    answers = drain(Generator(loaded), ALL)
    for answer in answers.values():
        timings = answer.timings
        assert timings.parallel == COUNT
        assert 1 <= timings.rows <= COUNT
        assert 0 < timings.machine_seconds <= timings.decode_seconds
        assert 0 <= timings.stall_seconds <= timings.decode_seconds
    assert max(answer.timings.rows for answer in answers.values()) > 2


def test_the_time_of_rendering_a_prompt_is_a_stall_of_those_that_decode(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by 100 seconds for the second of three prompts."""
    generator, clock, plan, seconds = Generator(loaded), time.perf_counter, Generator.plan, 0.0

    def slow(self: Generator, asked: GenerationRequest, *cancelled: Any) -> AttemptPlan:
        nonlocal seconds
        seconds += 100.0 if asked == request(6) else 0.0
        return plan(self, asked, *cancelled)

    monkeypatch.setattr(Generator, "plan", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + seconds)
    # while that is rendered the first decodes, and the third has not come
    answers = drain(generator, (0, 6, 2), arrivals={6: 8, 2: 12})
    first, second, third = [answers[number].timings for number in (0, 6, 2)]
    assert 100 < first.stall_seconds < 110
    assert 100 < second.render_seconds < 110
    for timings in (first, second, third):
        assert timings.machine_seconds < 10
    assert max(second.stall_seconds, third.stall_seconds, third.first_token_seconds) < 10


def test_a_request_that_cannot_be_run_fails_alone(loaded: LoadedModel, alone: Answers) -> None:
    generator = Generator(loaded)
    slots = generator.slots(COUNT)
    bad = request(2)
    beyond = Sampling(max_tokens=4, logit_bias={"999999": 1.0})
    too_long = Context(max_context_tokens=8)
    wrong = {
        10: GenerationRequest(bad.prompt, beyond, Context(), 1, parallel=COUNT),
        11: GenerationRequest(bad.prompt, bad.sampling, too_long, 1, parallel=COUNT),
    }
    for number in (0, 1):
        slots.add(number, request(number), lambda: False, lambda _: None)
    for number, sent in wrong.items():
        slots.add(number, sent, lambda: False, lambda _: None)
    outcomes: dict[int, Any] = {}
    while slots.busy:
        outcomes.update(slots.step())
    assert all(isinstance(outcomes.pop(number), JobError) for number in wrong)
    assert tokens_of(outcomes) == {n: t for n, t in tokens_of(alone).items() if n in (0, 1)}


def test_a_request_that_is_cancelled_before_its_turn_is_answered(loaded: LoadedModel) -> None:
    together = drain(Generator(loaded), ALL, cancelled=lambda number, _: number == 6)
    assert together[6].stop_reason is StopReason.CANCELLED
    assert together[6].tokens == ()


def test_another_seed_gives_other_tokens(loaded: LoadedModel, alone: Answers) -> None:
    same = GenerationRequest(
        request(0).prompt, request(0).sampling, request(0).context, seed=99, parallel=COUNT
    )
    slots = Generator(loaded).slots(COUNT)
    slots.add(0, same, lambda: False, lambda _: None)
    outcomes: dict[int, Any] = {}
    while slots.busy:
        outcomes.update(slots.step())
    assert outcomes[0].tokens != alone[0].tokens


def test_mlx_lm_s_batch_would_fail_these_tests() -> None:
    """It changes a row's logits with its neighbours, so that the comparison can fail."""
    model = load("demo").model
    prompts = [[(7 * i + 13 * n) % 1000 + 200 for i in range(n)] for n in (60, 61, 200)]

    def logprobs(batch: Sequence[Sequence[int]]) -> list[Any]:
        """Of each step of the first prompt."""
        generator = BatchGenerator(model, max_tokens=6, completion_batch_size=len(batch))
        first, *_ = generator.insert([list(prompt) for prompt in batch])
        found = []
        while responses := generator.next_generated():
            found += [r.logprobs for r in responses if r.uid == first]
        return found

    beside_short = logprobs([prompts[0], prompts[1]])
    beside_long = logprobs([prompts[0], prompts[2]])
    equal = [mx.array_equal(a, b).item() for a, b in zip(beside_long, beside_short, strict=True)]
    assert not all(equal)
