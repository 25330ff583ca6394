"""What loop detection and penalties cost."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any

from mh_batch.worker.bench.bench import MLX_LM, Bench, Found
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Sample, Variants, figure
from mh_batch.worker.bench.workload import COUNTING, UNWATCHED

MODES = ("off", "cheap", "full")
PENALTY: dict[str, Any] = {"repetition_penalty": 1.1, "repetition_window": 256}
OURS = "mh-batch"


def loops(bench: Bench) -> Found:
    """Measure decoding with each mode of loop detection, and the detector by itself."""
    variants = {}
    for mode in MODES:
        values = {"max_tokens": bench.sizes.decode, "temperature": 1.0, "loop_detection": mode}
        variants[mode] = partial(bench.subject.decode_speed, COUNTING, values)
    samples = bench.interleave(variants)
    for mode in MODES:
        over = {} if mode == "off" else {"of off": "off"}
        yield figure(("loops", f"decode, {mode}"), "tok/s", samples, mode, over)
    yield from _detector(bench)


def _detector(bench: Bench) -> Iterator[Figure]:
    """Yield the cost of the detector itself on tokens that never loop."""
    count = bench.sizes.detector
    variants = {mode: partial(_push, mode, count) for mode in MODES}
    samples = bench.interleave(variants)
    for mode in MODES:
        yield figure(("loops", f"detector alone, {mode}"), "ns/token", samples, mode)


def _push(mode: str, count: int) -> Sample:
    from mh_batch.engine.decoding.loop_detector import LoopDetector, LoopMode

    tokens = [(n * n * 7919 + n) % 200_000 for n in range(5000)]
    push = LoopDetector(LoopMode(mode)).push
    start = time.perf_counter_ns()
    for token in islice(cycle(tokens), count):
        push(token)
    return Sample((time.perf_counter_ns() - start) / count)


def penalties(bench: Bench) -> Found:
    """Measure decoding with and without a repetition penalty, ours and mlx-lm's, at lengths.

    A prompt stands for earlier output; both penalties count its tokens like generated ones.
    """
    for length in bench.sizes.lengths:
        prompt = bench.prompt_of(length)
        without = {"max_tokens": bench.sizes.near, "temperature": 1.0}
        with_it = {**without, **PENALTY}
        ours = partial(bench.subject.decode_speed, prompt)
        variants: Variants = {
            OURS: partial(ours, {**UNWATCHED, **without}),
            f"{OURS}, penalty": partial(ours, {**UNWATCHED, **with_it}),
            MLX_LM: bench.reference(MLX_LM, prompt, **without),
            f"{MLX_LM}, penalty": bench.reference(MLX_LM, prompt, **with_it),
        }
        samples = bench.interleave(variants)
        for name in variants:
            plain = name.removesuffix(", penalty")
            over = {} if name == plain else {"of none": plain}
            yield figure(("penalties", f"{name}, at {length}"), "tok/s", samples, name, over)
