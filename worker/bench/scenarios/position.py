"""What the position costs: speed at 1 to 16 windows, and memory up to there."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.bench.bench import MLX_LM, Bench, Found
from mh_batch.worker.bench.report.report import Figure, Series
from mh_batch.worker.bench.rounds import Sample, figure, not_measured
from mh_batch.worker.bench.workload import COUNTING, UNWATCHED, various

PLAIN = "no window"
MEBI = 1 << 20


def position(bench: Bench) -> Found:
    """Measure decode speed at multiples of the window; a prompt stands for earlier output."""
    sizes = bench.sizes
    places: dict[str, list[str]] = {}
    variants: dict[str, Callable[[], Sample]] = {}
    for multiple in sizes.multiples:
        prompt = bench.prompt_of(sizes.window * multiple - sizes.near)
        for name, variant in _variants(bench, prompt).items():
            place = f"{name}, at {multiple}x{sizes.window}"
            places.setdefault(name, []).append(place)
            variants[place] = variant
    # all in one comparison, so that the first and the last position are measured close in time
    samples = bench.interleave(variants)
    for name, cases in places.items():
        for case in cases:
            over = {} if case == cases[0] else {f"of {sizes.multiples[0]}x": cases[0]}
            yield figure(("position", case), "tok/s", samples, case, over)
        yield Series(
            "position",
            name,
            "position",
            "tok/s",
            x=tuple(float(multiple * sizes.window) for multiple in sizes.multiples),
            y=tuple(median(s.value for s in samples[case]) for case in cases),
        )


def _variants(bench: Bench, prompt: Prompt) -> dict[str, Callable[[], Sample]]:
    values = {"max_tokens": bench.sizes.near, "temperature": 1.0}
    speed = partial(bench.subject.decode_speed, prompt)
    window = bench.sizes.window
    return {
        f"window {window}": partial(speed, {**UNWATCHED, **values, "max_kv_size": window}),
        PLAIN: partial(speed, {**UNWATCHED, **values}),
        f"{MLX_LM}, {PLAIN}": bench.reference(MLX_LM, prompt, **values),
    }


def memory(bench: Bench) -> Found:
    """Measure the memory of one long completion with and without a window, and of many jobs."""
    window = bench.sizes.memory_window
    bench.forget()
    yield from _completion(bench, f"window {window}", {"max_kv_size": window})
    yield from _completion(bench, PLAIN, {})
    yield from _jobs(bench)


def _completion(bench: Bench, case: str, values: dict[str, Any]) -> Found:
    """Yield active memory by position, and its growth from 2 to 16 windows.

    Memory in use before is subtracted: the weights of a real model would hide the cache's growth.
    """
    subject, window = bench.subject, bench.sizes.memory_window
    samples: list[tuple[int, int]] = []
    before = subject.active_memory()

    def progress(count: int) -> None:
        if count >= window * (len(samples) + 1) // 2:
            samples.append((count, subject.active_memory() - before))

    values = {**UNWATCHED, "max_tokens": 16 * window + 1, "temperature": 2.0, **values}
    subject.generate(COUNTING, values, progress=progress)
    place = ("memory", f"{case}, growth of its active memory from 2x to 16x{window}")
    growth = grown(samples, 2 * window)
    if growth is None or samples[-1][0] < 16 * window:
        yield not_measured(place, "%", f"no samples from 2x to 16x{window} tokens")
    else:
        yield Figure(*place, growth, "%", n=1)
    yield Series(
        "memory",
        case,
        "position",
        "its active memory, MiB",
        x=tuple(float(count) for count, _ in samples),
        y=tuple(held / MEBI for _, held in samples),
    )


def grown(samples: Sequence[tuple[int, int]], start: int) -> float | None:
    """Return the growth of memory in percent from token `start` to the last sample.

    A sample is a count of tokens and the bytes in use then; `None` if none is at `start` or later,
    or no memory was in use there.
    """
    settled = next((held for count, held in samples if count >= start), 0)
    return 100 * (samples[-1][1] - settled) / settled if settled > 0 else None


def _jobs(bench: Bench) -> Found:
    """Yield the process's memory after each of many jobs, and its growth over the later half.

    As in a drain, prompts differ, prefixes are cached, and the engine cleans up between jobs.
    """
    held = []
    values = {"max_tokens": bench.sizes.decode, "temperature": 1.0}
    generator = bench.subject.generator(EngineOptions())
    for prompt in various(bench.sizes.memory_jobs):
        bench.subject.generate(prompt, values, generator=generator)
        generator.between_jobs()
        held.append(bench.subject.process_memory())
    half = held[len(held) // 2]
    case = f"{len(held)} jobs, growth of process memory over the later half"
    yield Figure("memory", case, 100 * (held[-1] - half) / half, "%", n=1)
    yield Series(
        "memory",
        "after each job",
        "job",
        "process memory, MiB",
        x=tuple(float(n) for n in range(1, len(held) + 1)),
        y=tuple(size / MEBI for size in held),
    )
