"""Penalties over the ring are mlx-lm's over the same window."""

from typing import Any

import mlx.core as mx
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm import sample_utils

from mh_batch.engine.decoding.penalties import Penalties, TokenWindow, penalises
from mh_batch.jobs.settings import Sampling

VOCABULARY = 12
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12)


def theirs(sampling: Sampling, tokens: list[int], logits: Any) -> Any:
    window = sampling.repetition_window
    processors = sample_utils.make_logits_processors(
        logit_bias={int(token): bias for token, bias in sampling.logit_bias.items()},
        repetition_penalty=sampling.repetition_penalty,
        repetition_context_size=window,
        presence_penalty=sampling.presence_penalty,
        presence_context_size=window,
        frequency_penalty=sampling.frequency_penalty,
        frequency_context_size=window,
    )
    for processor in processors:
        logits = processor(mx.array(tokens), logits)
    return logits


@settings(max_examples=60, deadline=None)
@given(
    TOKENS,
    TOKENS,
    st.integers(1, 9),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.sampled_from([0.0, 0.5, -0.4]),
    st.sampled_from([0.0, 0.3, -0.2]),
)
def test_logits_are_the_same_at_every_token(
    prompt: list[int],
    completion: list[int],
    window: int,
    repetition: float,
    presence: float,
    frequency: float,
) -> None:
    sampling = Sampling(
        repetition_penalty=repetition,
        repetition_window=window,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias={"3": 1.5, "0": -0.5},
    )
    logits = mx.random.normal((1, VOCABULARY), key=mx.random.key(window)) * 2
    penalties = Penalties(sampling, prompt)
    for count in range(len(completion) + 1):
        if count:
            penalties.push(mx.array([completion[count - 1]], dtype=mx.uint32))
        expected = theirs(sampling, prompt + completion[:count], mx.array(logits))
        assert mx.allclose(penalties(mx.array(logits)), expected, atol=1e-5)


def test_the_ring_never_grows_and_holds_the_last_tokens() -> None:
    recent = TokenWindow([5, 6], 4)
    assert recent.filled.tolist() == [[1, 1, 0, 0]]
    for token in range(10, 17):
        recent.push(mx.array([token], dtype=mx.uint32))
        assert recent.ids.shape == (1, 4)
    assert mx.sort(recent.ids[0]).tolist() == [13, 14, 15, 16]
    assert recent.filled.tolist() == [[1, 1, 1, 1]]


def test_a_window_takes_no_more_memory_than_there_can_be_tokens() -> None:
    wide = Sampling(repetition_penalty=1.1, repetition_window=20_000_000, max_tokens=5)
    before = mx.get_active_memory()
    penalties = Penalties(wide, [3, 4, 3])
    logits = mx.random.normal((1, VOCABULARY), key=mx.random.key(1))
    for token in (5, 6, 7, 3):
        penalties.push(mx.array([token], dtype=mx.uint32))
    assert mx.allclose(penalties(logits), theirs(wide, [3, 4, 3, 5, 6, 7, 3], logits))
    assert mx.get_active_memory() - before < 1_000_000


def test_penalties_are_off_by_default() -> None:
    assert not penalises(Sampling(logit_bias={"1": 2.0}))
    assert penalises(Sampling(repetition_penalty=0.9))
    assert penalises(Sampling(presence_penalty=-1))
    assert penalises(Sampling(frequency_penalty=0.1))
