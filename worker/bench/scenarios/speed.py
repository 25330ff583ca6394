"""Decode and prefill speed of a default job, compared with a bare loop and mlx-lm."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from mh_batch.worker.bench.bench import BARE, MLX_LM, RANDOM, Bench, Found, model_folder
from mh_batch.worker.bench.rounds import Variants, figure
from mh_batch.worker.bench.workload import COUNTING

OURS = "mh-batch"
UNIT = "tok/s"

SAMPLERS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {"temperature": 1.0},
    "top_p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "top_k 40": {"temperature": 1.0, "top_k": 40},
}
PLAIN = ("greedy", "temperature 1")
"""The samplers that leave most of the time to the model."""


def decode(bench: Bench) -> Found:
    """Measure decoding with the engine's defaults, without stop tokens, for each sampler."""
    yield from _decode(bench, "decode", bench.sizes.decode, SAMPLERS)


def larger(bench: Bench) -> Found:
    """Measure the same on a larger gpt-oss with random weights, whose steps take longer."""
    with model_folder(RANDOM) as folder:
        other = Bench(folder, bench.sizes, bench.rounds)
        yield from _decode(other, "larger", bench.sizes.larger, PLAIN)


def _decode(bench: Bench, scenario: str, tokens: int, cases: Iterable[str]) -> Found:
    for case in cases:
        values = {"max_tokens": tokens, **SAMPLERS[case]}
        variants: Variants = {
            OURS: partial(bench.subject.decode_speed, COUNTING, values),
            BARE: bench.reference(BARE, COUNTING, **values),
            MLX_LM: bench.reference(MLX_LM, COUNTING, **values),
        }
        samples = bench.interleave(variants)
        yield figure((scenario, case), UNIT, samples, OURS, {f"of {n}": n for n in (BARE, MLX_LM)})
        for name in (BARE, MLX_LM):
            yield figure((scenario, f"{case}, {name}"), UNIT, samples, name)


def prefill(bench: Bench) -> Found:
    """Measure prefill speed, up to the first token."""
    from mh_batch.worker.bench import reference

    subject = bench.subject
    default = f"{MLX_LM} in portions of {reference.MLX_LM_CHUNK:,}"
    for asked in bench.sizes.prompts:
        prompt = bench.prompt_of(asked)
        tokens, model = subject.tokens(prompt), subject.model
        variants: Variants = {
            OURS: partial(subject.prefill_speed, prompt),
            BARE: partial(reference.prefill_speed, reference.bare, model, tokens),
            MLX_LM: partial(reference.prefill_speed, reference.mlx_lm, model, tokens),
            default: partial(
                reference.prefill_speed, reference.mlx_lm, model, tokens, reference.MLX_LM_CHUNK
            ),
        }
        samples = bench.interleave(variants)
        case = f"{asked} tokens"
        others = (BARE, MLX_LM, default)
        yield figure(("prefill", case), UNIT, samples, OURS, {f"of {n}": n for n in others})
        for name in others:
            yield figure(("prefill", f"{case}, {name}"), UNIT, samples, name)
