"""Real drains of short jobs, and the share of the time that the model did not work."""

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from mh_batch.jobs.settings import Settings, apply
from mh_batch.worker.bench.bench import Bench, Found, work_folder
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Sample, Variants, figure
from mh_batch.worker.bench.workload import SEED, short_jobs

if TYPE_CHECKING:
    from mh_batch.jobs.record import Attempt
    from mh_batch.worker.options import ArtifactPolicy, WorkerSettings

POLICIES: tuple["ArtifactPolicy", ...] = ("off", "all")


class AttemptTimes(NamedTuple):
    """When an attempt ran, in seconds of one clock, and the parts of its time."""

    started: float
    finished: float
    render: float
    first_token: float
    decode: float
    parse: float


class Gaps(NamedTuple):
    """The gaps between the last token of a job and the prefill of the next.

    `share` is their sum over the wall time from the first attempt's start to the last one's end,
    `rendering` the part in the model process (rendering, parsing), `between` the part between one
    attempt's end and the next one's start (the store, the controller). `typical` is the median gap
    in seconds.
    """

    share: float
    rendering: float
    between: float
    typical: float


def drain(bench: Bench) -> Found:
    """Run short jobs through `work` in a folder of its own."""
    jobs = bench.sizes.drain_jobs
    yield from figures(run_jobs(bench.model, jobs), f"{jobs} short jobs")


def artifacts(bench: Bench) -> Found:
    """Measure what the files of every attempt cost a drain."""
    jobs = bench.sizes.artifact_jobs
    variants: Variants = {policy: partial(_pace, bench.model, jobs, policy) for policy in POLICIES}
    samples = bench.interleave(variants, warm=False)
    for policy in POLICIES:
        over = {} if policy == "off" else {"of off": "off"}
        case = f"{jobs} short jobs, {policy}"
        yield figure(("artifacts", case), "jobs/s", samples, policy, over)


def _pace(model: str, jobs: int, policy: "ArtifactPolicy") -> Sample:
    """Return the jobs a second of a drain, from the start of its first to the end of its last."""
    attempts = run_jobs(model, jobs, policy)
    return Sample(jobs / (attempts[-1].finished - attempts[0].started))


def figures(attempts: Sequence[AttemptTimes], case: str) -> Iterator[Figure]:
    """Yield the figures about the gaps of a drain."""
    found = gaps(attempts)
    n = len(attempts)
    if found is None:
        yield Figure("drain", case, None, "%", note=f"n/a: {n} attempts leave no gap to measure")
        return
    yield Figure("drain", f"{case}, gap share of wall", 100 * found.share, "%", n=n)
    yield Figure("drain", f"{case}, of which render and parse", 100 * found.rendering, "%", n=n)
    yield Figure("drain", f"{case}, of which between attempts", 100 * found.between, "%", n=n)
    yield Figure("drain", f"{case}, median gap", 1000 * found.typical, "ms", n=n - 1)


def gaps(attempts: Sequence[AttemptTimes]) -> Gaps | None:
    """Return the gaps of a drain, `None` for fewer than two attempts or no wall time."""
    if len(attempts) < 2:
        return None
    wall = attempts[-1].finished - attempts[0].started
    if wall <= 0:
        return None
    busy = sum(a.first_token + a.decode for a in attempts)
    between = [b.started - a.finished for a, b in pairwise(attempts)]
    # how much of an attempt was before its tokens and how much after is not known: take half each
    around = [a.finished - a.started - a.first_token - a.decode for a in attempts]
    typical = median(
        pause + (one + other) / 2
        for pause, (one, other) in zip(between, pairwise(around), strict=True)
    )
    return Gaps(
        share=max(0.0, wall - busy) / wall,
        rendering=sum(a.render + a.parse for a in attempts) / wall,
        between=sum(between) / wall,
        typical=typical,
    )


def run_jobs(model: str, jobs: int, policy: "ArtifactPolicy" = "all") -> list[AttemptTimes]:
    """Submit and drain short jobs of one attempt and its continuation; return their times."""
    with work_folder() as folder:
        return run_jobs_in(folder, model, jobs, policy)


def run_jobs_in(
    folder: Path, model: str, jobs: int, policy: "ArtifactPolicy"
) -> list[AttemptTimes]:
    """Do so in `folder`, leaving the database and the artifacts there."""
    from mh_batch.worker.options import WorkerSettings

    settings = apply(Settings(), {"max_tokens": 64, "max_attempts": 1, "seed": SEED})
    lines = b"".join(short_jobs(jobs))
    attempts = drain_lines(folder, lines, settings, model, WorkerSettings(artifacts=policy))
    return [_times(attempt) for attempt in attempts]


def drain_lines(
    folder: Path, lines: bytes, settings: Settings, model: str, options: "WorkerSettings"
) -> list["Attempt"]:
    """Submit `lines` and drain them in `folder`; return the attempts as they began."""
    import anyio

    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.status import FINISHED
    from mh_batch.store.connection import open_reader, open_store
    from mh_batch.store.queue import read_history
    from mh_batch.store.reports.results import finished_jobs
    from mh_batch.worker.draining.run import work
    from mh_batch.worker.options import DrainOptions, WorkerSettings, shared_fields
    from mh_batch.worker.progress.plain_display import PlainDisplay
    from mh_batch.worker.submission.submission import submit_stream

    db = folder / "mh-batch.db"
    store = open_store(db)
    try:
        batch = NewBatch("bench", "bench", settings, model, 0)
        submit_stream(store, io.BytesIO(lines), batch)
    finally:
        store.close()
    shared = shared_fields(options, WorkerSettings)
    drained = DrainOptions(db=db, model=model, logs=folder / "logs", **shared)
    anyio.run(work, drained, PlainDisplay(io.StringIO()))
    reader = open_reader(db)
    try:
        ids = [job.id for job in finished_jobs(reader, None, tuple(FINISHED))]
        attempts = [attempt for job_id in ids for attempt in read_history(reader, job_id).attempts]
    finally:
        reader.close()
    return sorted(attempts, key=lambda attempt: attempt.started_at)


def _times(attempt: "Attempt") -> AttemptTimes:
    t = attempt.generation.timings
    return AttemptTimes(
        started=seconds_of(attempt.started_at),
        finished=seconds_of(attempt.finished_at),
        render=t.render_seconds,
        first_token=t.first_token_seconds,
        decode=t.decode_seconds,
        parse=t.parse_seconds,
    )


def seconds_of(moment: str) -> float:
    """Return a stored time in seconds."""
    return datetime.fromisoformat(moment).timestamp()
