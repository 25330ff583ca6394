"""Reuse of prompt beginnings changes no bit, and never serves another conversation's tokens."""

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.cuts import ends, make_cuts, worth_keeping
from mh_batch.engine.kv import make_caches
from mh_batch.engine.load import load
from mh_batch.engine.prefill import Prefilled, prefill
from mh_batch.engine.prefix import PrefixCache
from mh_batch.jobs.settings import Context

STEP = 64
WHOLE = Context(prefill_step=STEP)
WINDOWED = Context(prefill_step=STEP, max_kv_size=96)
LENGTHS = st.integers(1, 500)


@given(LENGTHS, st.integers(0, 600), st.integers(1, 100))
def test_cuts_ascend_by_at_most_a_step_and_hold_the_last_token_back(
    length: int, prefix_end: int, step: int
) -> None:
    found = (0, *ends(length, prefix_end, step))
    assert found[-1] == length - 1
    assert all(0 < after - before <= step for before, after in itertools.pairwise(found))


@given(LENGTHS, LENGTHS, st.integers(0, 300), st.integers(1, 100))
def test_a_longer_prompt_is_cut_like_a_shorter_one_but_for_its_end(
    one: int, other: int, prefix_end: int, step: int
) -> None:
    short, long = sorted((one, other))
    assert set(ends(short, prefix_end, step)[:-1]) <= set(ends(long, prefix_end, step))


def test_cuts_are_at_the_end_of_the_instructions_and_on_a_grid_from_there() -> None:
    assert ends(1000, 300, 200) == (200, 300, 500, 700, 900, 999)
    assert ends(1000, 0, 512) == (512, 999)
    assert ends(1000, 5000, 512) == (512, 999)
    assert ends(1, 0, 16) == ()
    assert ends(2, 0, 16) == (1,)


def keys(tokens: Sequence[int], cut_ends: Sequence[int], layout: str = "x") -> list[bytes]:
    return [cut.digest for cut in make_cuts(tokens, cut_ends, layout)]


def test_a_key_covers_the_tokens_the_cuts_and_the_layout() -> None:
    base = keys([1, 2, 3, 4], [2, 4])
    assert keys([1, 2, 3, 4, 5], [2, 4, 5])[:2] == base
    assert keys([1, 2, 3, 9], [2, 4])[0] == base[0]
    others = [
        keys([1, 2, 3, 4], [2, 4], "y")[1],
        keys([1, 2, 3, 4], [1, 4])[1],
        keys([1, 2, 3, 9], [2, 4])[1],
        keys([9, 2, 3, 4], [2, 4])[1],
    ]
    assert len({base[1], *others}) == 5


def test_kept_are_the_instructions_the_last_on_the_grid_and_the_deepest_seen_before() -> None:
    cuts = make_cuts(range(100), [10, 30, 50, 70, 90, 99], "x")
    digests = [cut.digest for cut in cuts]
    assert worth_keeping(cuts, 30, ()) == {digests[1], digests[4]}
    assert worth_keeping(cuts, 30, digests[:3]) == {digests[1], digests[2], digests[4]}
    assert worth_keeping(cuts, 0, digests) == {digests[4], digests[5]}
    assert worth_keeping(cuts[:1], 0, ()) == set()


@pytest.fixture(scope="module")
def model() -> Any:
    return load("demo").model


def ids(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(200_000), k=length)


def never() -> bool:
    return False


def logits(model: Any, done: Prefilled, prompt: list[int]) -> Any:
    found = model(mx.array([prompt[-1:]], dtype=mx.uint32), cache=done.caches)
    mx.eval(found)
    return found


def read(
    model: Any, prompt: list[int], prefixes: PrefixCache, context: Context = WHOLE, end: int = 40
) -> tuple[Any, int]:
    """Return the first token's logits and how many tokens were reused."""
    done = prefill(model, prompt, end, context, prefixes, never)
    assert not done.cancelled
    assert done.done == len(prompt) - 1
    return logits(model, done, prompt), done.reused


@pytest.mark.parametrize("context", [WHOLE, WINDOWED], ids=["whole", "windowed"])
def test_first_logits_are_equal_to_the_bit_with_reuse_on_off_and_dropped_at_random(
    model: Any, context: Context
) -> None:
    shared = ids(330)
    prompts = [shared[:cut] + ids(extra, extra) for cut in (300, 200, 330) for extra in (1, 30, 90)]
    prompts = [*prompts, *prompts]
    expected = [read(model, prompt, PrefixCache(0), context)[0] for prompt in prompts[:9]] * 2
    chance = random.Random(3)
    always, dropped = PrefixCache(1 << 30), PrefixCache(1 << 30)
    reused = 0
    for prompt, right in zip(prompts, expected, strict=True):
        found, count = read(model, prompt, always, context)
        reused += count
        assert mx.array_equal(found, right)
        if chance.random() < 0.4:
            dropped.clear()
        assert mx.array_equal(read(model, prompt, dropped, context)[0], right)
    # the second round finds each whole prompt or nearly so
    assert reused > 9 * 250


def test_an_off_grid_split_is_not_equal_to_the_bit_so_the_check_can_fail(model: Any) -> None:
    prompt = ids(300)
    expected, _ = read(model, prompt, PrefixCache(0))
    # a portion of a single token takes another matrix product, on the CPU as well
    other, _ = read(model, prompt, PrefixCache(0), end=298)
    assert not mx.array_equal(expected, other)
    assert mx.allclose(expected, other, atol=1e-2)


def test_decoding_on_from_a_copy_leaves_the_kept_state_alone(model: Any) -> None:
    prompt = ids(300)
    prefixes = PrefixCache(1 << 30)
    expected, _ = read(model, prompt, prefixes, WINDOWED)
    for _ in range(3):
        done = prefill(model, prompt, 40, WINDOWED, prefixes, never)
        for token in ids(120, 5):
            logits(model, done, [token])
        found, reused = read(model, prompt, prefixes, WINDOWED)
        assert reused >= 232
        assert mx.array_equal(found, expected)


@pytest.mark.parametrize("context", [WHOLE, WINDOWED], ids=["whole", "windowed"])
def test_one_token_changed_anywhere_serves_nothing_from_there_on(
    model: Any, context: Context
) -> None:
    prompt = ids(260)
    prefixes = PrefixCache(1 << 30)
    read(model, prompt, prefixes, context)
    read(model, prompt, prefixes, context)
    assert read(model, prompt, prefixes, context)[1] == 259
    for at in (0, 1, 39, 40, 41, 103, 104, 200, 231, 232, 258):
        other = prompt.copy()
        other[at] ^= 1
        found, reused = read(model, other, prefixes, context)
        assert reused <= at
        assert mx.array_equal(found, read(model, other, PrefixCache(0), context)[0])


def test_another_layout_or_another_grid_shares_nothing(model: Any) -> None:
    prompt = ids(260)
    prefixes = PrefixCache(1 << 30)
    read(model, prompt, prefixes, WINDOWED)
    assert read(model, prompt, prefixes, WHOLE)[1] == 0
    assert read(model, prompt, prefixes, Context(prefill_step=STEP, max_kv_size=97))[1] == 0
    narrower = Context(prefill_step=STEP, max_kv_size=96, kv_keep=5)
    assert read(model, prompt, prefixes, narrower)[1] == 0
    assert read(model, prompt, prefixes, WINDOWED, end=41)[1] == 0


def test_a_digest_alone_is_not_believed(model: Any) -> None:
    prefixes = PrefixCache(1 << 30)
    (cut,) = make_cuts(ids(40), [40], "x")
    (other,) = make_cuts(ids(40, 9), [40], "x")
    prefixes.put(cut, make_caches(model, None, 0))
    assert prefixes.deepest([cut], 0) is not None
    assert prefixes.deepest([dataclasses.replace(other, digest=cut.digest)], 0) is None


def test_the_next_turn_and_the_next_job_reuse_what_they_share(model: Any) -> None:
    prefixes = PrefixCache(1 << 30)
    instructions, turn = ids(100, 1), ids(150, 2)
    first = instructions + turn
    assert read(model, first, prefixes, end=100)[1] == 0
    assert read(model, first + ids(80, 3), prefixes, end=100)[1] == 228
    assert read(model, instructions + ids(90, 4), prefixes, end=100)[1] == 100


def test_a_beginning_without_instructions_is_reused_once_it_has_come_twice(model: Any) -> None:
    prefixes = PrefixCache(1 << 30)
    document = ids(200)
    found = [read(model, document + ids(90, seed), prefixes, end=0)[1] for seed in (1, 2, 3)]
    assert found == [0, 0, 192]


def test_the_bytes_stay_within_the_limit_and_the_oldest_go_first(model: Any) -> None:
    one = PrefixCache(1 << 30)
    read(model, ids(60), one, end=0)
    read(model, ids(60), one, end=0)
    assert len(one) == 1
    prefixes = PrefixCache(3 * one.nbytes)
    for seed in (0, 0, 1, 1, 2, 2, 0, 3, 3):
        read(model, ids(60, seed), prefixes, end=0)
        assert prefixes.nbytes <= 3 * one.nbytes
    assert [read(model, ids(60, seed), prefixes, end=0)[1] for seed in (0, 2, 3)] == [59, 59, 59]
    assert read(model, ids(60, 1), prefixes, end=0)[1] == 0
    prefixes.clear()
    assert (len(prefixes), prefixes.nbytes) == (0, 0)


def conversation() -> list[list[int]]:
    """The prompts of eight turns, each a portion longer than the one before."""
    instructions, talk = ids(20, 1), ids(600, 2)
    return [instructions + talk[: STEP * turn + 10] for turn in range(1, 9)]


def bytes_kept_of(model: Any, prompt: list[int]) -> int:
    """What a prompt alone leaves in a cache without a limit."""
    prefixes = PrefixCache(1 << 30)
    read(model, prompt, prefixes, end=20)
    return prefixes.nbytes


def test_instructions_outlive_the_turns_of_a_long_conversation(model: Any) -> None:
    turns = conversation()
    # room for what one prompt of the conversation keeps, not for two
    prefixes = PrefixCache(bytes_kept_of(model, turns[-1]) * 3 // 2)
    for turn in turns:
        read(model, turn, prefixes, end=20)
    assert read(model, turns[-1], prefixes, end=20)[1] >= 20 + 8 * STEP
    assert read(model, turns[0][:20] + ids(30, 3), prefixes, end=20)[1] == 20


def test_a_retry_and_the_next_turn_find_their_own_beginning_when_room_is_short(model: Any) -> None:
    turns = conversation()
    # beside the instructions it holds two states of the longest prompts, and a short one
    prefixes = PrefixCache(bytes_kept_of(model, turns[-1]) * 5 // 2)
    for number, turn in enumerate(turns):
        grid = 20 + STEP * number
        first = read(model, turn, prefixes, end=20)[1]
        again = read(model, turn, prefixes, end=20)[1]
        assert (first, again) == (grid if number else 0, grid + STEP)


def test_what_exceeds_the_limit_alone_is_not_kept(model: Any) -> None:
    prefixes = PrefixCache(1000)
    for _ in range(3):
        assert read(model, ids(60), prefixes)[1] == 0
    assert prefixes.nbytes == 0


def test_a_cancel_ends_a_prefill_before_its_next_portion(model: Any) -> None:
    asked: list[int] = []

    def third() -> bool:
        asked.append(1)
        return len(asked) == 3

    prompt = ids(300)
    done = prefill(model, prompt, 40, WHOLE, PrefixCache(0), third)
    assert done.cancelled
    assert done.done == 104
