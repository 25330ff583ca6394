"""The logits of slots are those of the model alone, and models of another form are found."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import base
from mlx_lm.models.cache import make_prompt_cache

from helpers.small_models import MODELS, random_model
from mh_batch.engine.kv_cache.caches import make_caches
from mh_batch.engine.slots.row_caches import IDLE, RowAttention, SlotCaches, UnusualAttention
from mh_batch.engine.slots.support import examine

LENGTHS = (3, 16, 17, 70)  # the small gpt-oss has a sliding window of 16 positions


def prompt(length: int) -> Any:
    return mx.array([[(7 * i + length) % 250 for i in range(length)]], dtype=mx.uint32)


def read(model: Any, length: int, window: int | None) -> list[Any]:
    """Caches that hold a prompt of that many tokens."""
    caches = make_caches(model, window, 4)
    mx.eval(model(prompt(length), cache=caches))
    return caches


@pytest.mark.parametrize("window", [None, 32])
@pytest.mark.parametrize("name", ["gpt_oss", "llama"])
def test_rows_of_different_lengths_see_what_each_sees_alone(name: str, window: int | None) -> None:
    """The expected logits are the model's own, one row at a time, on its own caches."""
    model = random_model(*MODELS[name])
    rows = [read(model, length, window) for length in LENGTHS]
    layers = [SlotCaches([*each, IDLE]) for each in zip(*rows, strict=True)]
    token = mx.array([[5]] * (len(LENGTHS) + 1), dtype=mx.uint32)
    single = [read(model, length, window) for length in LENGTHS]
    for _ in range(20):
        with RowAttention(model):
            together = model(token, cache=layers)
        for i, caches in enumerate(single):
            expected = model(token[:1], cache=caches)
            assert mx.allclose(together[i], expected[0], atol=1e-4).item()
            assert layers[0].rows[i].offset == caches[0].offset


@pytest.mark.parametrize("name", ["falcon_h1", "deepseek_v32"])
def test_models_of_another_form_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UnusualAttention, match="its caches are of another kind"):
        examine(random_model(*MODELS[name]))


def test_what_slots_need_to_know_is_read_from_the_model() -> None:
    model = random_model(*MODELS["gpt_oss"])
    support = examine(model)
    caches = read(model, 40, None)
    held = [(c.keys.nbytes + c.values.nbytes) // c.keys.shape[2] for c in caches]
    assert list(support.position_bytes) == held
    assert support.windows == (16, None)
    assert support.vocabulary == 300
    assert support.most == 63  # one expert a token
    assert examine(random_model(*MODELS["llama"])).most is None


def test_attention_that_changes_keys_behind_the_cache_is_refused() -> None:
    model = random_model(*MODELS["llama"])
    kind = type(model.model.layers[0].self_attn)

    class Repeats(SlotCaches):
        def update_and_fetch(self, keys: Any, values: Any) -> Any:
            keys, values = super().update_and_fetch(keys, values)
            return mx.repeat(keys, 1, axis=1) + 0, values

    layers = [Repeats([IDLE, IDLE]) for _ in make_prompt_cache(model)]
    with RowAttention(model), pytest.raises(UnusualAttention, match="changes keys or values"):
        model(mx.zeros((2, 1), dtype=mx.uint32), cache=layers)
    assert kind.__call__.__globals__["scaled_dot_product_attention"] is (
        base.scaled_dot_product_attention
    )


def test_the_model_s_own_attention_is_back_after_a_step() -> None:
    model = random_model(*MODELS["gpt_oss"])
    caches = make_prompt_cache(model)
    before = model(prompt(20), cache=caches)
    examine(model)
    after = model(prompt(20), cache=make_prompt_cache(model))
    assert mx.array_equal(before, after).item()
