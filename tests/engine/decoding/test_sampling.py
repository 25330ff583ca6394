"""Tokens are drawn with keys of their own and from what the filters leave."""

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm import sample_utils

from mh_batch.engine.decoding import filters
from mh_batch.engine.decoding.sampling import Sampler, token_key
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.settings import Sampling

LOGPROBS = mx.log(mx.array([[0.4, 0.3, 0.2, 0.1]]))


def draw(sampling: Sampling, seed: int, count: int = 1, protected: set[int] | None = None) -> Any:
    sampler = Sampler(sampling, seed, [0], protected or ())
    previous = mx.array([0], dtype=mx.uint32)
    return [sampler(LOGPROBS, previous).item() for _ in range(count)]


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
    draw(Sampling(top_p=0.9, top_k=3, min_p=0.01, xtc_probability=0.5), 1, 10)
    assert mx.random.uniform(shape=(4,)).tolist() == expected


@pytest.mark.parametrize("top_k", [0, 4, 3])
def test_draws_follow_the_probabilities(top_k: int) -> None:
    shares = [0.4, 0.3, 0.2, 0.1] if top_k != 3 else [4 / 9, 3 / 9, 2 / 9, 0]
    counts = [0] * 4
    for token in draw(Sampling(top_k=top_k), 11, 4000):
        counts[token] += 1
    for count, expected in zip(counts, shares, strict=True):
        assert count / 4000 == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(temperature=0), {0}),
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_k=4), {0, 1, 2, 3}),
        (Sampling(top_k=4000), {0, 1, 2, 3}),
        (Sampling(top_p=0.6), {0, 1}),
        (Sampling(top_p=1e-9), {0}),
        (Sampling(min_p=0.45), {0, 1, 2}),
        (Sampling(temperature=2.0), {0, 1, 2, 3}),
        (Sampling(xtc_probability=1.0, xtc_threshold=0.15), {2, 3}),
        (Sampling(xtc_probability=1.0, xtc_threshold=0.5), {0, 1, 2, 3}),
        (Sampling(xtc_probability=0.5, xtc_threshold=0.25), {0, 1, 2, 3}),
        (Sampling(top_p=0.6, xtc_probability=1.0, xtc_threshold=0.4), {1}),
        (Sampling(xtc_probability=1.0, xtc_threshold=0.15, top_k=1), {2}),
        (Sampling(logit_bias={"3": 100}), {3}),
        (Sampling(temperature=0, logit_bias={"0": -100, "2": 1}), {2}),
    ],
)
def test_a_filter_leaves_what_it_says(sampling: Sampling, allowed: set[int]) -> None:
    assert set(draw(sampling, 1, 300)) == allowed


def test_xtc_spares_protected_tokens() -> None:
    assert set(draw(Sampling(xtc_probability=1.0, xtc_threshold=0.15), 1, 300, {0})) == {0, 2, 3}


def test_a_bias_for_a_token_that_is_none_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match="logit_bias: 4 is no token"):
        draw(Sampling(logit_bias={"4": 1.0}), 1)


def kept(logits: Any) -> list[bool]:
    found: list[bool] = (logits > -float("inf")).flatten().tolist()
    return found


@settings(max_examples=15, deadline=None)
# few masses: mlx compiles a kernel for each
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.05, 0.5, 0.93, 0.99]),
    st.sampled_from([0.1, 1.0, 6.0]),
)
def test_top_p_keeps_what_the_full_sort_keeps(seed: int, mass: float, spread: float) -> None:
    logits = mx.random.normal((1, 5000), key=mx.random.key(seed)) * spread
    logprobs = logits - mx.logsumexp(logits)
    ours, theirs = (
        kept(filters.top_p(logits, mass)),
        kept(sample_utils.apply_top_p(logprobs, mass)),
    )
    # sums in another order differ in the last bits: at most one token at the edge may
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1


def test_top_p_keeps_equals_of_the_last_token_and_the_rest_of_a_flat_vocabulary() -> None:
    logits = mx.log(mx.array([[0.5, 0.125, 0.125, 0.125, 0.125]]))
    assert kept(filters.top_p(logits, 0.5)) == [True, False, False, False, False]
    assert kept(filters.top_p(logits, 0.51)) == [True] * 5
    assert all(kept(filters.top_p(mx.zeros((1, 20_000)), 0.3)))


def test_filters_agree_with_mlx_lm() -> None:
    logits = mx.random.normal((1, 5000), key=mx.random.key(2)) * 3
    logprobs = logits - mx.logsumexp(logits)
    assert kept(filters.min_p(logits, 0.02)) == kept(sample_utils.apply_min_p(logprobs, 0.02))
    theirs = kept(sample_utils.apply_top_k(logprobs, 40))
    assert set(filters.top_k(logits, 40).flatten().tolist()) == {
        index for index, stays in enumerate(theirs) if stays
    }
    ours = filters.xtc(logits, 1.0, 0.01, mx.array([7]), mx.random.key(0))
    assert kept(ours) == kept(sample_utils.apply_xtc(logprobs, 1.0, 0.01, [7]))


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_a_key_is_a_64_bit_number_of_seed_and_index(seed: int, index: int) -> None:
    key = token_key(seed, index)
    assert 0 <= key < 2**64
    assert key not in (token_key(seed, index + 1), token_key((seed + 1) % 2**64, index))


def test_keys_of_neighbouring_seeds_do_not_repeat_each_other() -> None:
    keys = {token_key(seed, index) for seed in range(100) for index in range(100)}
    assert len(keys) == 100 * 100
