"""What the reuse of shared prefixes saves."""

import time
from functools import partial
from typing import Any

from mh_batch.jobs.generation import Prompt
from mh_batch.jobs.settings import Sampling
from mh_batch.worker.bench.bench import Bench, Found
from mh_batch.worker.bench.rounds import Sample, figure
from mh_batch.worker.bench.workload import NO_REUSE, REUSE, sharing, turns

WITH, WITHOUT, SCRIPT = "reuse", "no reuse", "mlx-lm script"


def prefix(bench: Bench) -> Found:
    """Measure prompts with a shared prefix with reuse, without, and as a plain script.

    The prompts are jobs with the same system prompt, and the turns of a conversation.
    """
    sizes = bench.sizes
    jobs = sharing(bench.prompt_of(sizes.shared, system=True), sizes.sharing_jobs)
    yield from _compared(bench, f"{len(jobs)} jobs sharing {sizes.shared} tokens", jobs)
    yield from _compared(bench, f"{sizes.turns} short turns", turns(sizes.turns))


def _compared(bench: Bench, case: str, prompts: list[Prompt]) -> Found:
    subject = bench.subject
    values: dict[str, Any] = {"max_tokens": bench.sizes.sharing_decode, "temperature": 0.0}
    variants = {
        WITHOUT: partial(subject.wall, prompts, values, NO_REUSE),
        WITH: partial(subject.wall, prompts, values, REUSE),
        SCRIPT: partial(_script, bench, prompts, Sampling(**values)),
    }
    references = {"of mlx-lm script": SCRIPT}
    samples = bench.interleave(variants, warm=False)
    over = {"of no reuse": WITHOUT, **references}
    yield figure(("prefix", f"{case}, {WITH}"), "s", samples, WITH, over)
    yield figure(("prefix", f"{case}, {WITHOUT}"), "s", samples, WITHOUT, references)
    yield figure(("prefix", f"{case}, {SCRIPT}"), "s", samples, SCRIPT)


def _script(bench: Bench, prompts: list[Prompt], sampling: Sampling) -> Sample:
    """Return the seconds of a script that calls mlx-lm for one prompt after the other.

    It prefills in the engine's chunks: the best size for a device has nothing to do with reuse.
    """
    from mh_batch.worker.bench import reference

    model = bench.subject.model
    start = time.perf_counter()
    for prompt in prompts:
        begin = reference.unread(model, bench.subject.tokens(prompt))
        for _ in reference.mlx_lm(model, begin, sampling):
            pass
    return Sample(time.perf_counter() - start)
