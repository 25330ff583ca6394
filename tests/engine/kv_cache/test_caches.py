"""A window over full attention attends to the kept and the latest positions, however it is fed."""

import functools
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import gpt_oss
from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache

from helpers.small_models import GPT_OSS, MODELS, random_model
from mh_batch.engine.kv_cache.caches import (
    WindowKVCache,
    cached_length,
    layout,
    make_caches,
    window,
)
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import Settings, apply

WINDOW = 32


EXACT = 1e-5
ROUNDING = {"deepseek_v32": 2e-4}
"""What single tokens and chunks differ by without a window, where it is more than `EXACT`."""


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return random_model(*MODELS[request.param])


@pytest.fixture
def exact(request: pytest.FixtureRequest) -> float:
    """The largest difference that rounding makes on the model of this test."""
    return ROUNDING.get(request.node.callspec.params["model"], EXACT)


@pytest.fixture(scope="module")
def single(model: Any) -> Callable[[int], Any]:
    """Gives the logits after 150 tokens fed one by one, of which the first `keep` are kept."""
    tokens = prompt(150)
    return functools.cache(
        lambda keep: feed(model, make_caches(model, WINDOW, keep), tokens, [1] * 150)
    )


def prompt(length: int) -> Any:
    return mx.random.randint(0, 300, (length,), key=mx.random.key(length)).astype(mx.uint32)


def feed(model: Any, caches: list[Any], tokens: Any, sizes: list[int]) -> Any:
    """Return the logits after each token, fed in chunks of `sizes`."""
    found = []
    done = 0
    for size in sizes:
        found.append(model(tokens[None, done : done + size], cache=caches))
        mx.eval(found[-1], [cache.state for cache in caches])
        done += size
    return mx.concatenate(found, axis=1)[0]


def difference(some: Any, others: Any) -> float:
    """Return the largest difference as a share of the largest logit."""
    share: Any = mx.abs(some - others).max() / mx.abs(some).max()
    return float(share.item())


def chunks(total: int, size: int) -> list[int]:
    return [min(size, total - at) for at in range(0, total, size)]


@pytest.mark.parametrize("keep", [0, 4, WINDOW - 1])
@pytest.mark.parametrize("size", [2, 3, 7, 31, 32, 33, 50, 150])
def test_portions_of_any_size_give_what_single_tokens_give(
    model: Any, single: Callable[[int], Any], exact: float, keep: int, size: int
) -> None:
    together = feed(model, make_caches(model, WINDOW, keep), prompt(150), chunks(150, size))
    assert difference(single(keep), together) < exact


def test_portions_and_single_tokens_may_alternate(
    model: Any, single: Callable[[int], Any], exact: float
) -> None:
    sizes = [1, 40, 1, 1, 5, 30, *[1] * 40, 20, 1, 11]
    mixed = feed(model, make_caches(model, WINDOW, 4), prompt(150), sizes)
    assert difference(single(4), mixed) < exact


def test_a_window_changes_what_the_model_sees(model: Any) -> None:
    tokens = prompt(150)
    plain = feed(model, make_caches(model, None, 0), tokens, [150])
    narrow = feed(model, make_caches(model, WINDOW, 4), tokens, [150])
    assert difference(plain[:WINDOW], narrow[:WINDOW]) < 1e-5
    assert difference(plain, narrow) > 1e-2


def attention(keys: Any, seen: Any) -> Any:
    """One head whose query is the key itself, with explicit masks, `[length, dim]`."""
    scores = mx.where(seen, keys @ keys.T, -float("inf"))
    return mx.softmax(scores, axis=-1) @ keys


@pytest.mark.parametrize("sliding", [None, 5, 20])
@pytest.mark.parametrize("sizes", [[1] * 90, [90], [20, 30, 40], [3, *[1] * 50, 30, 1, 6]])
def test_a_window_is_the_attention_it_stands_for(sliding: int | None, sizes: list[int]) -> None:
    keep = 4
    keys = mx.random.normal((90, 8), key=mx.random.key(1))
    place = mx.arange(90)
    distance = place[:, None] - place[None]
    seen = (distance >= 0) & ((distance < WINDOW - keep) | (place[None] < keep))
    if sliding:
        seen = seen & (distance < sliding)
    cache = WindowKVCache(WINDOW, keep)
    found = []
    done = 0
    for size in sizes:
        part = keys[None, None, done : done + size]
        mask = cache.make_mask(size, window_size=sliding)
        held_keys, held_values = cache.update_and_fetch(part, part)
        found.append(
            mx.fast.scaled_dot_product_attention(
                part, held_keys, held_values, scale=1.0, mask=mask
            )[0, 0]
        )
        done += size
    assert mx.allclose(mx.concatenate(found), attention(keys, seen), atol=1e-5)


def test_before_the_window_fills_nothing_differs_to_the_bit(model: Any) -> None:
    tokens = prompt(WINDOW)
    sizes = [10, 12, *[1] * (WINDOW - 22)]
    plain = feed(model, make_caches(model, None, 0), tokens, sizes)
    windowed = feed(model, make_caches(model, WINDOW, 4), tokens, sizes)
    assert mx.array_equal(plain, windowed)


def test_only_full_attention_gets_a_window_and_the_caches_say_so() -> None:
    model = random_model(gpt_oss, GPT_OSS | {"vocab_size": 300})
    caches = make_caches(model, WINDOW, 4)
    assert [type(entry) for entry in caches] == [RotatingKVCache, WindowKVCache]
    assert caches[0].max_size == GPT_OSS["sliding_window"]
    assert layout(caches) == "RotatingKVCache(16)×1+WindowKVCache(32, keep 4)×1"  # noqa: RUF001
    assert [type(entry) for entry in make_caches(model, None, 4)] == [RotatingKVCache, KVCache]


def test_the_caches_in_a_list_get_a_window_too_and_are_told_one_by_one() -> None:
    found = {name: layout(make_caches(random_model(*MODELS[name]), WINDOW, 4)) for name in MODELS}
    assert found["falcon_h1"] == "ArraysCache×2+WindowKVCache(32, keep 4)×2"  # noqa: RUF001
    assert found["deepseek_v32"] == "WindowKVCache(32, keep 4)×4"  # noqa: RUF001


def test_a_model_that_chooses_by_place_in_the_cache_keeps_its_own() -> None:
    class ByPlace:
        model_type = "minimax_m3_vl"

        def make_cache(self) -> list[Any]:
            return [CacheList(KVCache(), KVCache())]

    caches = make_caches(ByPlace(), WINDOW, 4)
    assert layout(caches) == "KVCache×2"  # noqa: RUF001
    assert window(caches) is None


def test_the_window_is_told_from_the_caches_in_use() -> None:
    for name in MODELS:
        model = random_model(*MODELS[name])
        assert window(make_caches(model, WINDOW, 4)) == WINDOW
        assert window(make_caches(model, None, 4)) is None
    # a layer's own sliding window is not one that was asked for
    sliding: list[Any] = [RotatingKVCache(16), KVCache()]
    assert window(sliding) is None


def test_the_positions_held_stop_at_the_window(model: Any) -> None:
    caches = make_caches(model, WINDOW, 4)
    plain = make_caches(model, None, 4)
    for entries, expected in ((caches, [20, 32, 32]), (plain, [20, 70, 71])):
        found = []
        for size in (20, 50, 1):
            feed(model, entries, prompt(size), [size])
            found.append(cached_length(entries))
        assert found == expected


def test_memory_does_not_grow_once_the_window_is_full(model: Any) -> None:
    caches = make_caches(model, WINDOW, 4)
    feed(model, caches, prompt(WINDOW * 2), [1] * (WINDOW * 2))
    before = sum(entry.nbytes for entry in caches)
    feed(model, caches, prompt(WINDOW * 5), [1] * (WINDOW * 5))
    assert sum(entry.nbytes for entry in caches) == before


@pytest.mark.parametrize("keep", [-1, WINDOW, WINDOW + 1])
def test_a_window_that_could_not_slide_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match="cannot keep"):
        WindowKVCache(WINDOW, keep)


def test_settings_refuse_a_window_that_its_kept_positions_fill() -> None:
    fine = apply(Settings(), {"kv_keep": 300, "max_kv_size": 1024})
    assert (fine.context.kv_keep, fine.context.max_kv_size) == (300, 1024)
    with pytest.raises(SettingsError, match=r"max_kv_size: must be above kv_keep \(300\), got 300"):
        apply(fine, {"max_kv_size": 300})
    with pytest.raises(
        SettingsError, match=r"kv_keep: must be below max_kv_size \(1024\), got 2000"
    ):
        apply(fine, {"kv_keep": 2000})
    with pytest.raises(SettingsError, match="max_kv_size"):
        apply(Settings(), {"max_kv_size": 8})
    assert apply(fine, {"max_kv_size": "none"}, text=True).context.max_kv_size is None
