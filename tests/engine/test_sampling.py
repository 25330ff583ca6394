"""Tokens are drawn with keys of their own and from what the filters leave."""

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.engine.sampling import KeyedSampler, penalties, token_key
from mh_batch.jobs.settings import Sampling

LOGPROBS = mx.log(mx.array([[0.4, 0.3, 0.2, 0.1]]))


def draw(sampling: Sampling, seed: int, count: int = 1) -> list[int]:
    sampler = KeyedSampler(sampling, seed)
    return [sampler(LOGPROBS).item() for _ in range(count)]


def test_the_same_seed_draws_the_same_tokens_whatever_the_global_state() -> None:
    first = draw(Sampling(), 5, 50)
    mx.random.seed(99)
    mx.random.normal((7,))
    assert draw(Sampling(), 5, 50) == first
    assert draw(Sampling(), 6, 50) != first


def test_drawing_leaves_the_global_state_alone() -> None:
    mx.random.seed(3)
    expected = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed(3)
    draw(Sampling(top_p=0.9, top_k=3, min_p=0.01), 1, 10)
    assert mx.random.uniform(shape=(4,)).tolist() == expected


def test_draws_follow_the_probabilities() -> None:
    counts = [0] * 4
    for token in draw(Sampling(), 11, 4000):
        counts[token] += 1
    for count, expected in zip(counts, (0.4, 0.3, 0.2, 0.1), strict=True):
        assert count / 4000 == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=0), {0}),
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_k=4), {0, 1, 2, 3}),
        (Sampling(top_k=4000), {0, 1, 2, 3}),
        (Sampling(top_p=0.6), {0, 1}),
        (Sampling(min_p=0.45), {0, 1, 2}),
        (Sampling(temperature=2.0), {0, 1, 2, 3}),
    ],
)
def test_a_filter_leaves_what_it_says(sampling: Sampling, allowed: set[int]) -> None:
    assert set(draw(sampling, 1, 300)) == allowed


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_a_key_is_a_64_bit_number_of_seed_and_index(seed: int, index: int) -> None:
    key = token_key(seed, index)
    assert 0 <= key < 2**64
    assert key not in (token_key(seed, index + 1), token_key((seed + 1) % 2**64, index))


def test_keys_of_neighbouring_seeds_do_not_repeat_each_other() -> None:
    keys = {token_key(seed, index) for seed in range(100) for index in range(100)}
    assert len(keys) == 100 * 100


def test_penalties_are_off_by_default_and_look_at_their_window() -> None:
    assert penalties(Sampling()) == []
    (repetition,) = penalties(Sampling(repetition_penalty=2.0, repetition_window=2))
    changed = repetition(mx.array([0, 1, 2]), mx.array([[4.0, 4.0, -4.0, 4.0]]))
    assert changed.tolist() == [[4.0, 2.0, -8.0, 4.0]]
    both = penalties(Sampling(presence_penalty=0.5, frequency_penalty=1.0))
    logits = mx.zeros((1, 3))
    for processor in both:
        logits = processor(mx.array([1, 1]), logits)
    assert logits.tolist() == [[0.0, -2.5, 0.0]]
