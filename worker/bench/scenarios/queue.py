"""What a claim and a record cost with few and with a million queued jobs."""

import time
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from sqlite_utils import Database

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.generation import (
    Channel,
    FinishReason,
    Generation,
    ModelInfo,
    Parse,
    ParserTier,
    StopReason,
    Timings,
)
from mh_batch.jobs.record import (
    Attempt,
    AttemptKey,
    CompletedStep,
    JobEnd,
    JobLine,
    NewBatch,
    Verdict,
)
from mh_batch.jobs.settings import Sampling, Settings
from mh_batch.jobs.status import Status
from mh_batch.store import queue as store
from mh_batch.store.connection import open_store
from mh_batch.store.queue.submit import CHUNK_ROWS, Submission
from mh_batch.worker.bench.bench import Bench, Found, work_folder
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.workload import words

MODEL = ModelInfo("bench", "0" * 64, "bench", "bench", "none", None, {})
GENERATION = Generation(
    tokens=tuple(range(200)),
    raw=words(200),
    finish_reason=FinishReason.STOP,
    stop_reason=StopReason.STOP_TOKEN,
    parse=Parse(1, ParserTier.STRICT, True, (), (Channel("analysis", "a"), Channel("final", "b"))),
    prompt_tokens=100,
    prompt_sha256="0" * 64,
    timings=Timings(100, 200, decode_seconds=1.0),
)


class Step(NamedTuple):
    """Seconds to find and claim a job, and to record its answer and end."""

    claim: float
    record: float


def queue(bench: Bench) -> Found:
    """Measure claims and records on two queues; both include the disk's time for the commit."""
    typical: dict[int, float] = {}
    for queued in bench.sizes.queued:
        with work_folder() as folder:
            steps = measure(folder / "mh-batch.db", queued, bench.sizes.claims)
        both = [step.claim + step.record for step in steps]
        typical[queued] = median(both)
        case, first = f"{queued:,} queued", typical[bench.sizes.queued[0]]
        over = {f"of {bench.sizes.queued[0]:,}": typical[queued] / first}
        n = len(both)
        yield Figure("queue", f"{case}, claim and record", 1000 * typical[queued], "ms", over, n)
        yield Figure("queue", f"{case}, p99", 1000 * quantiles(both, n=100)[98], "ms", n=n)
        claims = 1000 * median(step.claim for step in steps)
        yield Figure("queue", f"{case}, of which claim", claims, "ms", n=n)


def measure(path: Path, queued: int, claims: int) -> list[Step]:
    """Fill a queue and run at most `claims` jobs through it."""
    db = open_store(path)
    fill(db, queued)
    run_id = store.start_run(db, "{}", {})
    steps = [_step(db, run_id) for _ in range(min(claims, queued))]
    db.close()
    return steps


def fill(db: Database, queued: int) -> None:
    """Submit jobs of one batch."""
    with Submission.begin(db, NewBatch("bench", "bench", Settings(), MODEL.name)) as submission:
        for begin in range(0, queued, CHUNK_ROWS):
            numbers = range(begin + 1, min(begin + CHUNK_ROWS, queued) + 1)
            submission.add(
                [
                    JobLine(n, f"job-{n}", None, Request((Message("user", f"{n} + {n}?"),)))
                    for n in numbers
                ]
            )
        submission.publish("0" * 64)


def _step(db: Database, run_id: int) -> Step:
    begin = time.perf_counter()
    store.next_model(db, None, MODEL.name)
    job = store.claim(db, run_id, MODEL, None)
    assert job is not None, "the queue is filled"
    claimed = time.perf_counter()
    attempt = Attempt(AttemptKey(), Verdict.ACCEPT, None, 1, Sampling(), GENERATION)
    turn = CompletedStep(AttemptKey(), "question", "b", "a", "stop", 1, False, True)
    store.record(db, job.id, run_id, attempt, turn, JobEnd(Status.DONE))
    return Step(claimed - begin, time.perf_counter() - claimed)
