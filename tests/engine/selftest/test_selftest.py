"""A self-test passes on sound models, and each of its checks finds what it is for."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import pytest
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from helpers.small_models import EXPERTS, MODELS, random_model
from mh_batch.engine import generate
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache
from mh_batch.engine.model.load import load
from mh_batch.engine.selftest import draws
from mh_batch.engine.selftest import selftest as runner
from mh_batch.engine.selftest.checks import (
    TOLERANCES,
    CheckFailed,
    _distance,
    check_against_alone,
    check_neighbours,
    check_reuse,
)
from mh_batch.engine.selftest.rows import Read, Rows
from mh_batch.engine.selftest.samples import STEPS, Vocabulary, samples
from mh_batch.engine.selftest.speed import recommended
from mh_batch.engine.slots import joint_draw, row_caches
from mh_batch.engine.slots.row_caches import SlotCaches, UnusualAttention
from mh_batch.engine.slots.support import examine
from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.generation import SlotLimit

CONTROL = frozenset({0, 1, 2})
Call = Callable[..., Any]


class Wrapped:
    """A model whose logits in slots go through `change`."""

    def __init__(self, model: Any, change: Callable[[Any, Any], Any]) -> None:
        self._model = model
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, tokens: Any, cache: Any) -> Any:
        logits = self._model(tokens, cache=cache)
        return self._change(logits, cache) if isinstance(cache[0], SlotCaches) else logits


def subject(
    name: str = "llama", wrap: Callable[[Any], Any] = lambda model: model
) -> runner.Subject:
    model = random_model(*(EXPERTS if name == "experts" else MODELS[name]))
    support = examine(model)
    return runner.Subject(wrap(model), support, Vocabulary(support.vocabulary, CONTROL), 1100)


def run(tested: runner.Subject, *, thorough: bool = False) -> runner.Tested:
    return runner.selftest(tested, 4, lambda: None, thorough=thorough)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_a_sound_model_passes_with_signs_of_life(name: str) -> None:
    beats: list[None] = []
    found = runner.selftest(subject(name), 4, lambda: beats.append(None), thorough=False)
    assert found.verdict.passed, found.verdict
    assert (found.verdict.failed, found.verdict.layer, found.verdict.speeds) == (None, None, {})
    assert len(found.checked) == 4
    assert len(beats) > 50


@pytest.mark.parametrize(("name", "kind"), [("llama", "dora"), ("gpt_oss", "lora")])
def test_a_sound_model_with_an_adapter_passes(name: str, kind: str) -> None:
    def adapted(model: Any) -> Any:
        parameters = {"rank": 8, "scale": 20.0, "dropout": 0.0}
        linear_to_lora_layers(model, 2, parameters, use_dora=kind == "dora")
        random = [
            (key, mx.random.normal(value.shape) * 0.1)
            for key, value in tree_flatten(model.parameters())
            if key.endswith("lora_b")
        ]
        model.load_weights(random, strict=False)
        return model

    found = run(subject(name, adapted))
    assert found.verdict.passed, found.verdict


def test_a_thorough_test_has_speeds_memory_and_a_number_to_use() -> None:
    found = run(subject("gpt_oss"), thorough=True)
    assert found.verdict.passed
    assert list(found.verdict.speeds) == [1, 2, 4, 8, 16] == list(found.memory)
    assert all(speed > 0 for speed in found.verdict.speeds.values())
    assert found.verdict.recommended in found.verdict.speeds


def test_logits_that_depend_on_the_neighbours_fail() -> None:
    def noisy(logits: Any, _: Any) -> Any:
        # as little as one unit in the last place, from the rows in use
        return logits + 1e-6 * mx.mean(logits, axis=0, keepdims=True)

    verdict = run(subject(wrap=lambda model: Wrapped(model, noisy))).verdict
    assert not verdict.passed
    assert verdict.failed is not None
    assert "other logits beside others than alone (token 1)" in verdict.failed
    assert verdict.layer is None  # no cache differs: it happens behind the last of them


def test_logits_that_depend_on_the_slot_fail() -> None:
    def last_differs(logits: Any, _: Any) -> Any:
        return mx.concatenate([logits[:-1], logits[-1:] + 1e-6])

    verdict = run(subject(wrap=lambda model: Wrapped(model, last_differs))).verdict
    assert verdict.failed is not None
    assert "slot 4 of 4" in verdict.failed


def test_draws_that_depend_on_the_neighbours_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are sound here; rows that are drawn from together get other tokens than alone."""
    sound = joint_draw._drawn

    def sharper(logits: Any, samplers: Any) -> Any:
        return sound(logits if logits.shape[0] == 1 else -30 * logits, samplers)

    tested = subject()
    monkeypatch.setattr(joint_draw, "_drawn", sharper)
    verdict = run(tested).verdict
    assert verdict.failed is not None
    assert "other tokens from the same logits and seed beside others than alone" in verdict.failed
    assert verdict.layer is None


def test_draws_that_depend_on_the_slot_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_and_others(logits: Any, previous: Any, samplers: Any) -> Any:
        drawn = joint_draw.draw(logits, previous, samplers)
        return mx.concatenate([drawn[:1], (drawn[1:] + 1) % logits.shape[1]])

    tested = subject()
    monkeypatch.setattr(draws, "draw", first_and_others)
    verdict = run(tested).verdict
    assert verdict.failed is not None
    assert "in slot 2 of 4: other tokens from the same logits and seed" in verdict.failed


def test_a_cache_that_misreads_the_array_of_offsets_fails_at_its_first_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a model would that takes the first row's position for that of all."""

    def first_for_all(self: SlotCaches) -> Any:
        return mx.array([self.rows[0].offset] * len(self.rows), dtype=mx.int32)

    tested = subject("gpt_oss")
    monkeypatch.setattr(row_caches.SlotCaches, "offset", property(first_for_all))
    verdict = run(tested).verdict
    assert verdict.failed is not None
    assert "off those of one conversation at a time" in verdict.failed
    assert verdict.layer == 0


def of_type(name: str, dtype: Any) -> Rows:
    """Rows of a model of this type; experts are quantised, for MLX has no others on a CPU."""
    module, config = MODELS[name]
    wide = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32, "vocab_size": 512}
    model = random_model(module, config | wide)
    # the usual size of initial weights: larger ones make attention jump and amplify any rounding
    model.load_weights([(name, value / 4) for name, value in tree_flatten(model.parameters())])
    model.set_dtype(dtype)
    if name == "gpt_oss":
        nn.quantize(model, group_size=32, bits=8)
    mx.eval(model.parameters())
    return Rows(model, 8, lambda: None)


def read_several(rows: Rows) -> list[Read]:
    vocabulary = Vocabulary(512, CONTROL)
    return [rows.read(vocabulary.sample(n, "of a type")) for n in (5, 9, 14, 15, 20, 40, 60)]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_half_precision_is_within_its_tolerance_and_a_misread_position_is_not(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = of_type(name, dtype)
    reads = read_several(rows)
    assert rows.alone(reads[0]).logits[0].dtype == dtype
    check_against_alone(rows, reads)
    monkeypatch.setattr(row_caches.SlotCaches, "offset", property(lambda _: mx.zeros(8, mx.int32)))
    with pytest.raises(CheckFailed, match="off those of one conversation at a time"):
        check_against_alone(rows, reads)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_two_ways_to_round_are_within_the_tolerance_of_a_type(dtype: Any) -> None:
    """Each kernel is about as far from float32 arithmetic on the same weights."""
    rounded, exact = (of_type("llama", dtype) for _ in range(2))
    exact.model.set_dtype(mx.float32)
    for mine, wide in zip(read_several(rounded), read_several(exact), strict=True):
        pairs = zip(rounded.alone(mine).logits, exact.alone(wide).logits, strict=True)
        off = median(_distance(a, b) for a, b in pairs)
        assert 0 < 2 * off < TOLERANCES[dtype]


def test_slots_that_are_all_wrong_alike_fail() -> None:
    """Bit for bit they agree with each other: only the model alone shows it."""
    tested = subject(wrap=lambda model: Wrapped(model, lambda logits, _: logits * 1.1))
    verdict = run(tested).verdict
    assert verdict.failed is not None
    assert "off those of one conversation at a time by 0.1" in verdict.failed


def test_not_a_number_fails() -> None:
    tested = subject(wrap=lambda model: Wrapped(model, lambda logits, _: logits * mx.array(mx.nan)))
    assert not run(tested).verdict.passed


def test_a_reused_beginning_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = PrefixCache.deepest

    def stale(self: PrefixCache, *args: Any) -> Any:
        found = original(self, *args)
        if found is not None:
            found[1][1].values = found[1][1].values * 1.001
        return found

    tested = subject()
    monkeypatch.setattr(PrefixCache, "deepest", stale)
    verdict = run(tested).verdict
    assert verdict.failed == "other logits where the beginning of a prompt is reused (token 1)"
    assert verdict.layer == 1


def test_the_check_of_reuse_reuses_something(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    original = PrefixCache.deepest

    def watched(self: PrefixCache, *args: Any) -> Any:
        result = original(self, *args)
        found.append(-1 if result is None else result[0])
        return result

    monkeypatch.setattr(PrefixCache, "deepest", watched)
    tested = subject()
    check_reuse(Rows(tested.model, 4, lambda: None), tested.vocabulary, 150)
    assert found[0] == found[2] == -1
    assert found[1] >= 0


def test_the_prompts_cross_every_window_and_hold_no_control_token() -> None:
    tested = subject("gpt_oss")
    short = samples(tested.vocabulary, tested.support, None, thorough=False)
    long = samples(tested.vocabulary, tested.support, None, thorough=True)

    def crossed(made: Any, keys: int) -> bool:
        return any(len(s.prompt) - 1 < keys < len(s.prompt) - 1 + STEPS for s in made)

    assert all(crossed(short, keys) for keys in (16, 64, 1024))
    assert not crossed(short, 4096)
    assert crossed(long, 4096)
    assert any(sample.context.max_kv_size == 64 for sample in short)
    assert not CONTROL & {token for sample in long for token in (*sample.prompt, *sample.fed)}
    assert [len(s.prompt) for s in samples(tested.vocabulary, tested.support, 100, thorough=True)]
    assert all(
        len(s.prompt) < 100 for s in samples(tested.vocabulary, tested.support, 100, thorough=True)
    )


@pytest.mark.parametrize("count", [2, 3, 8])
def test_each_prompt_is_in_the_first_and_the_last_slot_beside_two_sets(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = subject()
    rows = Rows(tested.model, count, lambda: None)
    chosen = samples(tested.vocabulary, tested.support, 100, thorough=False)
    reads = [rows.read(sample) for sample in chosen]
    seen: dict[tuple[str, int], set[tuple[str, ...]]] = {}
    together = rows.together

    def watched(placed: Any) -> Any:
        for slot, read in placed.items():
            others = tuple(str(placed[s].sample.name) for s in sorted(placed) if s != slot)
            seen.setdefault((read.sample.name, slot), set()).add(others)
        return together(placed)

    monkeypatch.setattr(rows, "together", watched)
    check_neighbours(rows, reads)
    for sample in chosen:
        assert len(seen[sample.name, 0] - {()}) >= 2
        assert len(seen[sample.name, count - 1]) >= 2


def test_a_larger_number_of_slots_has_to_be_faster_by_more_than_a_little() -> None:
    assert recommended({1: 100.0, 2: 104.0, 4: 103.0}) == 1
    assert recommended({1: 100.0, 2: 180.0, 4: 187.0, 8: 190.0}) == 8
    assert recommended({1: 100.0, 2: 180.0, 4: 181.0, 8: 182.0}) == 2


def test_a_model_of_another_form_is_refused_with_the_reason(
    gpt_oss_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusual(_: Any) -> Any:
        raise UnusualAttention("it is unusual")

    monkeypatch.setattr(generate, "examine", unusual)
    generator = generate.Generator(load(str(gpt_oss_folder)))
    assert generator.slot_limit() == SlotLimit(1, "it is unusual")
    with pytest.raises(EnvironmentFault, match="cannot run in 2 slots: it is unusual"):
        generator.selftest(2, lambda: None, thorough=False)


def test_more_slots_than_run_on_the_same_kernels_are_for_the_test_to_decide() -> None:
    """From 16 rows on, four experts each, mlx-lm sorts the rows by expert."""
    tested = subject("experts")
    assert tested.support.most == 15
    found = runner.selftest(tested, 16, lambda: None, thorough=False)
    assert found.verdict.passed, found.verdict
