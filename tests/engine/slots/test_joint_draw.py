"""Rows draw the same tokens together and alone."""

from typing import Any

import mlx.core as mx
import pytest

from mh_batch.engine.decoding.sampling import Sampler
from mh_batch.engine.slots.joint_draw import _noise, draw
from mh_batch.jobs.settings import Sampling

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0},
    {"temperature": 0.5},
    {"top_p": 0.8},
    {"repetition_penalty": 1.2},
    {"temperature": 1.5},
    {"temperature": 0, "logit_bias": {"7": 3.0}},
    {"top_k": 5},
)


def sampler(kind: int, seed: int) -> Sampler:
    return Sampler(Sampling(**KINDS[kind]), seed, [1, 2, 3])


@pytest.mark.parametrize("vocabulary", [512, 501, 64])
@pytest.mark.parametrize(
    "kinds", [(0, 1, 2, 3), (4, 5, 6, 7), (0, 0, 5, 2), (1, 1, 1, 0), (0, 3, 4, 7)]
)
def test_a_row_draws_what_it_draws_beside_any_others(
    kinds: tuple[int, ...], vocabulary: int
) -> None:
    together = [sampler(kind, seed) for seed, kind in enumerate(kinds)]
    single = [sampler(kind, seed) for seed, kind in enumerate(kinds)]
    previous = mx.array([3] * 4, dtype=mx.uint32)
    for step in range(30):
        logits = mx.random.normal((4, vocabulary), key=mx.random.key(step)) * 3
        drawn = draw(logits, previous, together).tolist()
        for i, one in enumerate(single):
            slot = (i + step) % 4
            rows = mx.concatenate([logits[i : i + 1]] * 4)
            others = [one if at == slot else None for at in range(4)]
            before = mx.concatenate([previous[i : i + 1]] * 4)
            assert draw(rows, before, others).tolist()[slot] == drawn[i]
        previous = mx.array(drawn, dtype=mx.uint32)


@pytest.mark.parametrize("vocabulary", [64, 501, 512])
def test_the_noise_of_a_row_is_that_of_mlx_for_its_key(vocabulary: int) -> None:
    keys = [(0, 0), (0, 1), (7, 5), (2**32 - 1, 2**31 + 3)]
    made = _noise(vocabulary)(mx.array(keys, dtype=mx.uint32))
    for row, key in zip(made, keys, strict=True):
        expected = mx.random.gumbel((vocabulary,), key=mx.array(key, dtype=mx.uint32))
        assert mx.array_equal(row, expected).item()


def test_a_plain_draw_follows_the_softmax() -> None:
    """The shares are those of the distribution, within four standard deviations."""
    logits = mx.log(mx.array([[0.5, 0.25, 0.125, 0.125] + [1e-9] * 60]))
    one, counts, draws = sampler(0, 1), [0] * 64, 4000
    previous = mx.array([0], dtype=mx.uint32)
    for _ in range(draws):
        counts[draw(logits, previous, [one]).item()] += 1
    for count, share in zip(counts, [0.5, 0.25, 0.125, 0.125], strict=False):
        assert abs(count - draws * share) < 4 * (draws * share * (1 - share)) ** 0.5
