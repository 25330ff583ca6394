"""Reuse of prompt beginnings changes no bit, and never serves another conversation's tokens."""

import dataclasses
import gc
import random
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

from helpers.small_models import MODELS, random_model
from mh_batch.engine.kv_cache.caches import arrays, make_caches
from mh_batch.engine.kv_cache.chunking import (
    ChunkBoundary,
    PromptParts,
    Retention,
    chunk_boundaries,
)
from mh_batch.engine.kv_cache.prefill import Prefilled, prefill
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.model.load import load
from mh_batch.jobs.settings import Context

STEP = 64
WHOLE = Context(prefill_step=STEP)
WINDOWED = Context(prefill_step=STEP, max_kv_size=96)
CONTEXTS = pytest.mark.parametrize("context", [WHOLE, WINDOWED], ids=["whole", "windowed"])
ROOMY = 1 << 30
SLACK = 16 << 10


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(*MODELS["gpt_oss"])


@pytest.fixture(scope="module", params=["demo", *MODELS])
def any_model(request: pytest.FixtureRequest) -> Any:
    """Models with caches of every kind: sliding, several a layer, other state than attention."""
    return load("demo").model if request.param == "demo" else random_model(*MODELS[request.param])


def ids(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(300), k=length)


def places(prompt: list[int], instructions: int = 40, guidance: int | None = None) -> PromptParts:
    """PromptParts that the ids alone tell, as adapters do: one token in 25 ends a message."""
    messages = tuple(at for at, token in enumerate(prompt) if token < 12 and at > instructions)
    last = max(messages, default=instructions)
    return PromptParts(instructions, messages, last if guidance is None else guidance)


def plain(instructions: int = 0, *messages: int) -> PromptParts:
    return PromptParts(instructions, messages, max(messages, default=instructions))


def never() -> bool:
    return False


def logits(model: Any, done: Prefilled, prompt: list[int]) -> Any:
    found = model(mx.array([prompt[-1:]], dtype=mx.uint32), cache=done.caches)
    mx.eval(found)
    return found


def read(
    model: Any,
    prompt: list[int],
    prefixes: PrefixCache,
    context: Context = WHOLE,
    parts: PromptParts | None = None,
) -> tuple[Any, int]:
    """Return the first token's logits and how many tokens were reused."""
    where = places(prompt) if parts is None else parts
    done = prefill(model, prompt, where, context, prefixes, never)
    assert not done.cancelled
    assert done.done == len(prompt) - 1
    return logits(model, done, prompt), done.reused


@CONTEXTS
def test_first_logits_are_equal_to_the_bit_with_reuse_on_off_and_dropped_at_random(
    any_model: Any, context: Context
) -> None:
    shared = ids(170)
    lengths = ((150, 1), (150, 90), (100, 30), (170, 90), (100, 1))
    prompts = [shared[:cut] + ids(extra, extra) for cut, extra in lengths]
    off = PrefixCache(0)
    expected = [read(any_model, prompt, off, context)[0] for prompt in prompts] * 2
    prompts = [*prompts, *prompts]
    chance = random.Random(3)
    always, dropped = PrefixCache(ROOMY), PrefixCache(ROOMY)
    reused = 0
    for prompt, right in zip(prompts, expected, strict=True):
        found, count = read(any_model, prompt, always, context)
        reused += count
        assert mx.array_equal(found, right)
        if chance.random() < 0.4:
            dropped.clear()
        assert mx.array_equal(read(any_model, prompt, dropped, context)[0], right)
    # the second round finds each prompt but for its last few tokens
    assert reused > 0.85 * sum(map(len, prompts[:5]))
    assert len(off) == 0


@CONTEXTS
def test_what_is_decoded_after_a_reused_prompt_is_equal_to_the_bit(
    any_model: Any, context: Context
) -> None:
    prompt, said = ids(200), ids(20, 5)
    prefixes = PrefixCache(ROOMY)
    expected = None
    for cache in (PrefixCache(0), prefixes, prefixes, prefixes):
        done = prefill(any_model, prompt, places(prompt), context, cache, never)
        found = mx.concatenate([logits(any_model, done, [token]) for token in said])
        expected = found if expected is None else expected
        assert mx.array_equal(found, expected)


def test_an_off_grid_split_is_not_equal_to_the_bit_so_the_check_can_fail() -> None:
    model, prompt = load("demo").model, ids(300)
    expected, _ = read(model, prompt, PrefixCache(0), parts=plain(40))
    # a chunk of a single token takes another matrix product, on the CPU as well
    other, _ = read(model, prompt, PrefixCache(0), parts=plain(42))
    assert not mx.array_equal(expected, other)
    assert mx.allclose(expected, other, atol=1e-2)


def test_decoding_on_from_a_copy_leaves_the_kept_state_alone(model: Any) -> None:
    prompt = ids(300)
    prefixes = PrefixCache(ROOMY)
    expected, _ = read(model, prompt, prefixes, WINDOWED)
    for _ in range(3):
        done = prefill(model, prompt, places(prompt), WINDOWED, prefixes, never)
        for token in ids(120, 5):
            logits(model, done, [token])
        found, reused = read(model, prompt, prefixes, WINDOWED)
        assert reused >= 232
        assert mx.array_equal(found, expected)


@CONTEXTS
def test_one_token_changed_anywhere_serves_nothing_from_there_on(
    model: Any, context: Context
) -> None:
    prompt = ids(260)
    where = plain(40, 140, 200, 259)
    prefixes = PrefixCache(ROOMY)
    read(model, prompt, prefixes, context, where)
    assert read(model, prompt, prefixes, context, where)[1] == 259
    for at in (0, 1, 39, 40, 41, 103, 104, 199, 200, 201, 258):
        other = prompt.copy()
        other[at] ^= 1
        found, reused = read(model, other, prefixes, context, where)
        assert reused <= at
        assert mx.array_equal(found, read(model, other, PrefixCache(0), context, where)[0])


def test_another_layout_or_another_grid_shares_nothing(model: Any) -> None:
    prompt = ids(260)
    prefixes = PrefixCache(ROOMY)
    read(model, prompt, prefixes, WINDOWED)
    assert read(model, prompt, prefixes, WHOLE)[1] == 0
    assert read(model, prompt, prefixes, Context(prefill_step=STEP, max_kv_size=97))[1] == 0
    narrower = Context(prefill_step=STEP, max_kv_size=96, kv_keep=5)
    assert read(model, prompt, prefixes, narrower)[1] == 0
    assert read(model, prompt, prefixes, WINDOWED, plain(41, 100))[1] == 0


def a_boundary(length: int, seed: int = 0) -> ChunkBoundary:
    """The boundary before the last token of a prompt."""
    return chunk_boundaries(ids(length, seed), plain(), 512, "x")[-1]


FOR_OTHERS, OWN = Retention(for_others=True), Retention(for_others=False)


def test_a_digest_alone_is_not_believed(model: Any) -> None:
    prefixes = PrefixCache(ROOMY)
    boundary, other = a_boundary(40), a_boundary(40, 9)
    prefixes.put(boundary, make_caches(model, None, 0), OWN)
    assert prefixes.deepest([boundary], plain()) is not None
    assert prefixes.deepest([dataclasses.replace(other, digest=boundary.digest)], plain()) is None


def test_the_next_turn_and_the_next_job_reuse_what_they_share(model: Any) -> None:
    prefixes = PrefixCache(ROOMY)
    instructions, turn = ids(100, 1), ids(150, 2)
    first = instructions + turn
    assert read(model, first, prefixes, parts=plain(100, 249))[1] == 0
    second, where = first + ids(80, 3), plain(100, 249, 329)
    assert read(model, second, prefixes, parts=where)[1] == 228
    assert read(model, instructions + ids(90, 4), prefixes, parts=plain(100, 189))[1] == 100


def test_a_beginning_without_instructions_is_reused_once_it_has_come_twice(model: Any) -> None:
    prefixes = PrefixCache(ROOMY)
    document = ids(200)
    found = [
        read(model, document + ids(90, seed), prefixes, parts=plain(0, 289))[1]
        for seed in (1, 2, 3)
    ]
    assert found == [0, 0, 192]


def test_the_beginning_of_an_answer_is_cut_on_the_grid_behind_the_prompts_own_cuts(
    model: Any,
) -> None:
    prefixes = PrefixCache(ROOMY)
    prompt, begun = ids(150, 1), ids(200, 2)
    where = plain(100, 149)
    read(model, prompt, prefixes, parts=where)
    # 149 and every 64 tokens from there
    assert read(model, prompt + begun, prefixes, parts=where)[1] == 149
    longer = prompt + begun + ids(90, 3)
    found, reused = read(model, longer, prefixes, parts=where)
    assert reused == 149 + 3 * STEP
    assert mx.array_equal(found, read(model, longer, PrefixCache(0), parts=where)[0])
    assert read(model, prompt, prefixes, parts=where)[1] == 149


# ---- what goes where there is not room for all


def state(model: Any, length: int, seed: int = 0) -> tuple[ChunkBoundary, list[Any]]:
    """A boundary of a prompt of its own, and caches as they stand there."""
    caches = make_caches(model, None, 0)
    model(mx.array([ids(length, seed)], dtype=mx.uint32), cache=caches)
    return a_boundary(length, seed), caches


def size(model: Any, length: int) -> int:
    """What one such state takes."""
    prefixes = PrefixCache(ROOMY)
    prefixes.put(*state(model, length), OWN)
    return prefixes.nbytes


def here(prefixes: PrefixCache, seeds: range) -> list[int]:
    """Which of the states of prompts of 60 tokens are kept."""
    return [n for n in seeds if prefixes.deepest([a_boundary(60, n)], plain()) is not None]


@pytest.mark.parametrize("keep", [FOR_OTHERS, OWN], ids=["others", "own"])
def test_the_bytes_stay_within_the_limit_and_the_least_recently_used_goes_first(
    model: Any, keep: Retention
) -> None:
    limit = 3 * size(model, 60)
    prefixes = PrefixCache(limit)
    for seed in (0, 1, 2):
        prefixes.put(*state(model, 60, seed), keep)
    assert here(prefixes, range(1)) == [0]
    prefixes.put(*state(model, 60, 3), keep)
    assert prefixes.nbytes <= limit
    assert here(prefixes, range(4)) == [0, 2, 3]
    prefixes.clear()
    assert (len(prefixes), prefixes.nbytes) == (0, 0)


def test_states_of_prompts_that_come_once_leave_those_that_are_shared(model: Any) -> None:
    prefixes = PrefixCache(6 * size(model, 60))
    for seed in range(3):
        prefixes.put(*state(model, 60, seed), FOR_OTHERS)
    for seed in range(10, 40):
        prefixes.put(*state(model, 60, seed), OWN)
    assert here(prefixes, range(50)) == [0, 1, 2, 37, 38, 39]
    # and the other way round: many documents leave a conversation its last turns
    for seed in range(40, 50):
        prefixes.put(*state(model, 60, seed), FOR_OTHERS)
    assert here(prefixes, range(50)) == [37, 38, 39, 47, 48, 49]


def test_one_kind_alone_may_take_all_the_room(model: Any) -> None:
    for keep in (FOR_OTHERS, OWN):
        prefixes = PrefixCache(4 * size(model, 60))
        for seed in range(9):
            prefixes.put(*state(model, 60, seed), keep)
        assert here(prefixes, range(9)) == [5, 6, 7, 8]


def test_the_newest_state_of_a_long_conversation_is_kept_though_it_takes_more_than_half(
    model: Any,
) -> None:
    large = size(model, 900)
    prefixes = PrefixCache(large + size(model, 60) * 3 // 2)
    for seed in range(3):
        prefixes.put(*state(model, 60, seed), FOR_OTHERS)
    for seed in (7, 8):
        boundary, caches = state(model, 900, seed)
        prefixes.put(boundary, caches, OWN)
        assert prefixes.deepest([boundary], plain()) is not None
    assert here(prefixes, range(3)) == [2]


def test_a_state_that_yields_goes_before_the_one_it_yields_to(model: Any) -> None:
    one = size(model, 60)
    for room, left in ((2, [1]), (3, [1, 2])):
        prefixes = PrefixCache(room * one - one // 2)
        for seed in range(2):
            prefixes.put(*state(model, 60, seed), OWN)
        prefixes.put(
            *state(model, 60, 2), Retention(for_others=False, yields_to=a_boundary(60, 1).digest)
        )
        assert here(prefixes, range(3)) == left


def test_what_exceeds_the_limit_alone_is_not_kept(model: Any) -> None:
    prefixes = PrefixCache(1000)
    for _ in range(3):
        assert read(model, ids(60), prefixes)[1] == 0
    assert prefixes.nbytes == 0


@CONTEXTS
def test_the_bytes_told_are_those_that_the_device_holds(any_model: Any, context: Context) -> None:
    prompts = [ids(150, seed) for seed in range(8)]
    warm = PrefixCache(ROOMY)
    read(any_model, prompts[0], warm, context)
    each = len(arrays(prefill(any_model, prompts[0], plain(), context, warm, never).caches))
    warm.clear()
    gc.collect()
    before = mx.get_active_memory()
    prefixes = PrefixCache(ROOMY)
    for prompt in prompts:
        read(any_model, prompt, prefixes, context)
    gc.collect()
    held = mx.get_active_memory() - before
    assert len(prefixes) >= 16
    # what an array takes is rounded up
    assert 0.9 * prefixes.nbytes <= held <= prefixes.nbytes + len(prefixes) * each * SLACK


def test_a_state_that_is_a_view_of_a_larger_array_holds_no_more_than_it_shows() -> None:
    prefixes = PrefixCache(ROOMY)
    gc.collect()
    before = mx.get_active_memory()
    for seed in range(8):
        caches: list[Any] = [CacheList(ArraysCache(2), KVCache())]
        caches[0].caches[0][0] = mx.random.normal((1, 4096, 64))[:, -3:, :]
        prefixes.put(a_boundary(60, seed), caches, OWN)
    del caches
    assert mx.get_active_memory() - before <= prefixes.nbytes + 8 * SLACK
    assert prefixes.nbytes == 8 * (3 * 64 * 4 + 59 * 4)


def conversation() -> list[list[int]]:
    """The prompts of eight turns, each a chunk longer than the one before."""
    instructions, talk = ids(40, 1), ids(600, 2)
    return [instructions + talk[: STEP * turn + 1] for turn in range(1, 9)]


def turn_places(prompt: list[int]) -> PromptParts:
    return plain(40, *range(40 + STEP, len(prompt), STEP))


def bytes_kept_of(model: Any, prompt: list[int]) -> int:
    """What a prompt alone leaves in a cache without a limit."""
    prefixes = PrefixCache(ROOMY)
    read(model, prompt, prefixes, parts=turn_places(prompt))
    return prefixes.nbytes


@pytest.mark.parametrize("tenths", [11, 15, 25])
def test_instructions_outlive_the_turns_of_a_long_conversation(model: Any, tenths: int) -> None:
    turns = conversation()
    # room for what one prompt of the conversation keeps, not for three
    prefixes = PrefixCache(bytes_kept_of(model, turns[-1]) * tenths // 10)
    for turn in turns:
        read(model, turn, prefixes, parts=turn_places(turn))
    assert read(model, turns[-1], prefixes, parts=turn_places(turns[-1]))[1] == 40 + 8 * STEP
    assert read(model, turns[0][:40] + ids(30, 3), prefixes, parts=plain(40))[1] == 40


@pytest.mark.parametrize("tenths", [11, 15, 25])
def test_a_retry_and_the_next_turn_find_their_own_beginning_when_room_is_short(
    model: Any, tenths: int
) -> None:
    turns = conversation()
    prefixes = PrefixCache(bytes_kept_of(model, turns[-1]) * tenths // 10)
    for number, turn in enumerate(turns):
        where = turn_places(turn)
        before = 40 + STEP * number
        guided = turn[:-1] + ids(50, 3)
        first, again, third, fourth = (
            read(model, prompt, prefixes, parts=parts)[1]
            for prompt, parts in (
                (turn, where),
                (turn, where),
                (guided, where._replace(messages=(*where.messages, len(guided) - 1))),
                (turn, where),
            )
        )
        assert first == (before if number else 0)
        assert again == third == fourth == before + STEP


def test_a_cancel_ends_a_prefill_before_its_next_portion(model: Any) -> None:
    asked: list[int] = []

    def third() -> bool:
        asked.append(1)
        return len(asked) == 3

    prompt = ids(300)
    done = prefill(model, prompt, plain(40), WHOLE, PrefixCache(0), third)
    assert done.cancelled
    assert done.done == 104
