"""A drain in slots by the clock, compared with one without and with a script on mlx-lm."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mh_batch.engine.fit.drop_plan import MARGIN
from mh_batch.jobs.settings import EngineOptions, Settings, apply
from mh_batch.worker.bench.bench import work_folder
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.slot_speed import SEQUENTIAL, environment
from mh_batch.worker.bench.workload import SEED, UNWATCHED, words
from mh_batch.worker.runtime.child import PYTHON

from .drain import drain_lines, seconds_of

if TYPE_CHECKING:
    from mh_batch.jobs.record import Attempt

CHILD = "from mh_batch.worker.bench.scenarios.slot_drain import child; child()"
SLOTS = 8
SAMPLED = 8
"""Of so many jobs, one is run sequentially: each takes as long whatever ran before it."""

PROMPT_TOKENS = (50, 400)
ANSWER_TOKENS = (32, 256)
TEMPLATE_TOKENS = len("user\n" + "\n" + "assistant\n") + 3
"""The tokens around a prompt, three of them control tokens; all others are one byte each."""


class SizedJob(msgspec.Struct, frozen=True):
    """A prompt and how many tokens its answer has."""

    prompt: str
    max_tokens: int


class Run(msgspec.Struct, frozen=True):
    """What a process is to run: the worker with so many slots, or the script (`None`)."""

    model: str
    jobs: tuple[SizedJob, ...]
    slots: int | None
    blas: str


class Cost(msgspec.Struct, frozen=True):
    """Tokens of the answers, seconds by the clock, and the share of the slots that were busy."""

    tokens: int
    seconds: float
    busy: float = 1.0

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def sized_jobs(count: int) -> tuple[SizedJob, ...]:
    """Return jobs with prompts of 50 to 400 bytes and answers of 32 to 256 tokens.

    The lengths are spread evenly, over every eighth of 64 jobs too.
    """
    text = words(200)
    return tuple(
        SizedJob(
            f"{i:02}: {text}"[: _spread(PROMPT_TOKENS, 37 * i + 4) - TEMPLATE_TOKENS],
            _spread(ANSWER_TOKENS, 23 * i + 3),
        )
        for i in range(count)
    )


def _spread(bounds: tuple[int, int], number: int) -> int:
    least, most = bounds
    return least + (most - least) * (number % 64) // 63


def drains(model: Path, count: int, blas: str) -> Iterator[Figure]:
    """Run the jobs in slots and as a script, and some of them sequentially; once each."""
    jobs = sized_jobs(count)
    some = jobs[::SAMPLED]
    alone = run(Run(str(model), some, 1, blas))
    script = run(Run(str(model), jobs, None, blas))
    found = run(Run(str(model), jobs, SLOTS, blas))
    ratios = {
        f"of {SEQUENTIAL}": found.speed / alone.speed,
        "of script": found.speed / script.speed,
    }
    case = f"drain of {count} jobs"
    yield Figure("slots", f"{case}, {SLOTS} slots", found.speed, "tok/s", ratios, count)
    yield Figure("slots", f"{case}, slots busy", 100 * found.busy, "%", n=count)
    yield Figure("slots", f"{case}, batch_generate script", script.speed, "tok/s", n=count)
    note = f"every {SAMPLED}th job" if len(some) < count else ""
    name = f"{case}, {SEQUENTIAL}"
    yield Figure("slots", name, alone.speed, "tok/s", n=len(some), note=note)


def run(asked: Run) -> Cost:
    """Run jobs in a process of its own, which starts another for the model unless it is a script.

    The times to start and to load the model do not count.
    """
    env = environment(asked.blas if asked.slots is None else None)
    arguments = [*PYTHON, "-c", CHILD, msgspec.json.encode(asked).decode()]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, env=env)
    return msgspec.json.decode(done.stdout, type=Cost)


def child() -> None:
    """Run as that process, and print the cost."""
    asked = msgspec.json.decode(sys.argv[1], type=Run)
    cost = script(asked) if asked.slots is None else drain(asked, asked.slots)
    print(msgspec.json.encode(cost).decode())


def script(asked: Run) -> Cost:
    """Do what a plain script on mlx-lm does: apply the template, and generate in batches."""
    from mlx_lm import batch_generate, load

    model, tokenizer = load(asked.model)[:2]
    begin = time.perf_counter()
    prompts = [_templated(tokenizer, job.prompt) for job in asked.jobs]
    lengths = [job.max_tokens for job in asked.jobs]
    done = batch_generate(
        model,
        tokenizer,
        prompts,
        max_tokens=lengths,
        return_token_ids=True,
        completion_batch_size=SLOTS,
        prefill_batch_size=SLOTS,
    )
    seconds = time.perf_counter() - begin
    return Cost(sum(len(ids) for ids in done.token_ids), seconds)


def _templated(tokenizer: Any, prompt: str) -> Any:
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True)


def drain(asked: Run, slots: int) -> Cost:
    """Drain the jobs in so many slots."""
    from mh_batch.worker.options import WorkerSettings

    values = {"max_attempts": 1, "temperature": 0.0, "seed": SEED, **UNWATCHED}
    options = WorkerSettings(parallel=slots, engine=EngineOptions(preload_blas=asked.blas))
    lines = [_line(i, job) for i, job in enumerate(asked.jobs)]
    with work_folder() as folder:
        settings = apply(Settings(), values)
        attempts = drain_lines(folder, b"\n".join(lines), settings, asked.model, options)
    return cost(attempts, slots)


def _line(number: int, job: SizedJob) -> bytes:
    """Return a job whose answer fills its context: else it would be continued."""
    context = TEMPLATE_TOKENS + len(job.prompt) + job.max_tokens + MARGIN
    return msgspec.json.encode(
        {
            "custom_id": f"job-{number}",
            "prompt": job.prompt,
            "max_tokens": job.max_tokens,
            "max_context_tokens": context,
        }
    )


def cost(attempts: Sequence["Attempt"], slots: int) -> Cost:
    """Return what the attempts of one drain took, from the first start to the last end."""
    begin = min(seconds_of(attempt.started_at) for attempt in attempts)
    end = max(seconds_of(attempt.finished_at) for attempt in attempts)
    timings = [attempt.generation.timings for attempt in attempts]
    # each attempt decoded for all of a step, and took its share of the machine
    machine = sum(t.machine_seconds for t in timings)
    decoding = sum(t.decode_seconds - t.stall_seconds for t in timings)
    busy = decoding / (slots * machine) if machine else 1.0
    return Cost(sum(t.completion_tokens for t in timings), end - begin, busy)
