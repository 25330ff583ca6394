"""Decode speeds of several rows at once, measured in a process with a BLAS of its own."""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.worker.model_process.preload import preloading
from mh_batch.worker.runtime.child import PYTHON

from .rounds import Sample, Samples, Variants, interleave
from .workload import REUSE, UNWATCHED, make_request, prompts_of_words

SEQUENTIAL = "sequential"
CHILD = "from mh_batch.worker.bench.slot_speed import child; child()"


class Decode(msgspec.Struct, frozen=True):
    """What to measure: `tokens` steps of a model in each number of `slots`, and one row alone."""

    model: str
    slots: tuple[int, ...]
    tokens: int
    rounds: int


def slots_name(count: int) -> str:
    """Return the name of the variant that runs the engine in `count` slots."""
    return f"{count} slots"


def rows_name(count: int) -> str:
    """Return the name of the variant that runs mlx-lm's `BatchGenerator` on `count` rows."""
    return f"{count} rows of mlx-lm"


def environment(blas: str | None) -> dict[str, str]:
    """Return the environment of a process with this BLAS (`None`: MLX's own) on one thread."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", **preloading(blas)}


def speeds(asked: Decode, blas: str | None) -> Samples:
    """Return the tokens a second of each variant, measured in a process of its own."""
    arguments = [*PYTHON, "-c", CHILD, msgspec.json.encode(asked).decode()]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, env=environment(blas))
    return msgspec.json.decode(done.stdout, type=Samples)


def child() -> None:
    """Run as that process: measure, and print the samples."""
    samples = measure(msgspec.json.decode(sys.argv[1], type=Decode))
    print(msgspec.json.encode(samples).decode())


def measure(asked: Decode) -> Samples:
    """Measure all variants that the model can run, round by round, on the same prompts."""
    from .subject import Subject

    subject = Subject(asked.model)
    engine = subject.generator(REUSE)
    most = engine.slot_limit().most
    counts = [count for count in asked.slots if most is None or count <= most]
    prompts = prompts_of_words(max(counts))
    rows = Rows(subject.model, [subject.tokens(prompt) for prompt in prompts])
    alone = {"max_tokens": asked.tokens + 1, "temperature": 0.0, **UNWATCHED}
    variants: Variants = {
        SEQUENTIAL: partial(subject.decode_speed, prompts[0], alone),
        **{slots_name(n): partial(in_slots, engine, prompts[:n], asked.tokens) for n in counts},
        **{rows_name(n): partial(rows.speed, n, asked.tokens) for n in counts},
    }
    return interleave(variants, asked.rounds)


def in_slots(
    engine: Any, prompts: Sequence[Prompt], tokens: int, temperature: float = 0.0
) -> Sample:
    """Return the tokens a second of `tokens` steps with an attempt in each slot."""
    count = len(prompts)
    slots = engine.slots(count)
    drawn, enough = [0] * count, False
    for i, prompt in enumerate(prompts):
        request = _request(prompt, tokens + 2 * count + 2, count, temperature)
        slots.add(i, request, lambda: enough, partial(drawn.__setitem__, i))
    while min(drawn) == 0:
        slots.step()
    before, start = sum(drawn), time.perf_counter()
    for _ in range(tokens):
        slots.step()
    seconds = time.perf_counter() - start
    found = Sample((sum(drawn) - before) / seconds)
    enough = True
    while slots.busy:
        slots.step()
    return found


class Rows:
    """mlx-lm's `BatchGenerator` over prompts that are read once."""

    def __init__(self, model: Any, prompts: Sequence[list[int]]) -> None:
        from . import reference

        self._model = model
        self._starts = [reference.read(model, prompt) for prompt in prompts]

    def speed(self, count: int, tokens: int) -> Sample:
        """Return the tokens a second of `tokens` steps of the first `count` prompts."""
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator, generation_stream

        starts = self._starts[:count]
        rows = BatchGenerator(
            self._model,
            max_tokens=tokens + 4,
            completion_batch_size=count,
            prefill_batch_size=count,
        )
        last = [[int(start.prompt[-1].item())] for start in starts]
        rows.insert(last, caches=[copy.deepcopy(start.caches) for start in starts])
        while len(rows.next_generated()) < count:
            pass
        begin = time.perf_counter()
        drawn = sum(len(rows.next_generated()) for _ in range(tokens))
        seconds = time.perf_counter() - begin
        mx.synchronize(generation_stream)
        rows.close()
        return Sample(drawn / seconds)


def _request(prompt: Prompt, tokens: int, parallel: int, temperature: float) -> GenerationRequest:
    values = {"max_tokens": tokens, "temperature": temperature, **UNWATCHED}
    return msgspec.structs.replace(make_request(prompt, values), parallel=parallel)
