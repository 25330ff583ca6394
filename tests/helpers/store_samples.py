"""Small makers of the structs that the store takes."""

from collections.abc import Iterable

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request
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
    ClaimedJob,
    CompletedStep,
    JobEnd,
    JobLine,
    NewBatch,
    Verdict,
)
from mh_batch.jobs.settings import Sampling, Settings
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.queue.submit import Submission

DONE = JobEnd(Status.DONE)
SAMPLING = Sampling(temperature=0.7)
FIRST = AttemptKey()
DEFAULTS = Settings()


def line(number: int, custom_id: str | None = None, model: str | None = None) -> JobLine:
    return JobLine(number, custom_id or f"line-{number}", model, Request(turns=(f"ask {number}",)))


def lines(count: int) -> list[JobLine]:
    return [line(number) for number in range(1, count + 1)]


def submit(
    db: Database,
    jobs: Iterable[JobLine],
    name: str = "night",
    priority: int = 0,
    model: str | None = None,
    settings: Settings = DEFAULTS,
    given: tuple[str, ...] | None = None,
) -> int:
    batch = NewBatch(name, f"{name}.jsonl", settings, model, priority, given=given)
    with Submission.begin(db, batch) as submission:
        assert submission.add(list(jobs)) == []
        submission.publish("0" * 64)
    return submission.batch_id


def submit_older(db: Database, name: str = "night") -> None:
    """Write a batch of one job as a version before `settings_given` did."""
    batch = db.execute(
        "INSERT INTO batches (name, source, state, submitted_at, seed, settings, job_count) "
        "VALUES (?, 'old.jsonl', 'ready', '2026-01-01T00:00:00.000Z', 0, '{}', 1) RETURNING id",
        (name,),
    ).fetchone()
    request = '{"turns":["ask 1"]}'
    db.execute(
        "INSERT INTO jobs (batch_id, position, custom_id, request) VALUES (?, 1, 'line-1', ?)",
        (*batch, request),
    )
    db.conn.commit()


def model(name: str = "demo", fingerprint: str = "f" * 64) -> ModelInfo:
    return ModelInfo(name, fingerprint, "gpt_oss", "harmony", "cpu", 4096, {"mlx": "1.0"})


def start(db: Database) -> int:
    return queue.start_run(db, "{}", {"mh-batch": "0"})


def claim(db: Database, run_id: int, name: str = "demo") -> ClaimedJob:
    job = queue.claim(db, run_id, model(name), name)
    assert job is not None
    return job


def generation(tokens: tuple[int, ...] = (5, 200_012, 7), text: str = "four") -> Generation:
    return Generation(
        tokens=tokens,
        raw=f"<|channel|>final<|message|>{text}<|return|>",
        finish_reason=FinishReason.STOP,
        stop_reason=StopReason.STOP_TOKEN,
        parse=Parse(
            1, ParserTier.STRICT, True, (), (Channel("analysis", "hm"), Channel("final", text))
        ),
        prompt_tokens=11,
        prompt_sha256="a" * 64,
        timings=Timings(
            *(11, len(tokens)),
            decode_seconds=0.5,
            kv_len=1500,
            kv_layout="rotating",
            machine_seconds=0.5,
        ),
        max_tokens=SAMPLING.max_tokens,
    )


def attempt(key: AttemptKey = FIRST, verdict: Verdict = Verdict.ACCEPT) -> Attempt:
    return Attempt(
        key=key,
        verdict=verdict,
        retry_reason=None if verdict is Verdict.ACCEPT else "length",
        seed=2**63 - 1,
        sampling=SAMPLING,
        generation=generation(),
        started_at="2026-05-01T01:00:00.000Z",
        finished_at="2026-05-01T01:00:02.500Z",
    )


def side_by_side(key: AttemptKey = FIRST, verdict: Verdict = Verdict.ACCEPT) -> Attempt:
    """What decodes in a quarter of the machine: two tokens in two seconds, one of them a stall."""
    made = generation()
    timings = msgspec.structs.replace(
        made.timings,
        decode_seconds=2.0,
        tokens_per_second=1.0,
        parallel=8,
        rows=4.0,
        stall_seconds=1.0,
        machine_seconds=0.25,
    )
    made = msgspec.structs.replace(made, timings=timings)
    return msgspec.structs.replace(attempt(key, verdict), generation=made)


def rest(key: AttemptKey, verdict: Verdict = Verdict.ACCEPT) -> Attempt:
    """What goes on from the three tokens of the attempt before, with two of its own."""
    made = generation((7, 8))
    made = msgspec.structs.replace(made, response_prefill=generation().tokens, prompt_tokens=14)
    return msgspec.structs.replace(attempt(key, verdict), generation=made, continues=True)


def turn(key: AttemptKey = FIRST, complete: bool = True) -> CompletedStep:
    return CompletedStep(key, "two and two?", "four", "hm", "stop", key.attempt, False, complete)


def finish_next(db: Database, run_id: int, end: JobEnd = DONE) -> ClaimedJob:
    """Claim the next job and end it with one accepted attempt."""
    job = claim(db, run_id)
    queue.record(db, job.id, run_id, attempt(), turn(), end)
    return job
