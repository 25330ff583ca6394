"""`mh-batch submit --check`: measure a file against the model without queueing it.

The file is submitted to a temporary database, so that the checks are those of `submit` and memory
stays flat. Then every prompt is rendered in the model process, which loads no weights for that.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import anyio
from msgspec.structs import replace

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import JobError, ModelNotLoaded, ModelProcessDied, NoModel, SettingsError
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.jobs.record import ClaimedJob, JobLine, NewBatch
from mh_batch.jobs.seeds import job_seed
from mh_batch.jobs.settings import apply
from mh_batch.store.clock import now
from mh_batch.store.connection import open_reader, open_store
from mh_batch.store.queue.submit import landed_lines
from mh_batch.store.reports.estimate import ThroughputEstimate, throughput_estimate
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.model_process.client import COMMAND, ModelClient, start_model
from mh_batch.worker.model_process.protocol import Measured
from mh_batch.worker.text.format import format_count

from .dry_run_report import DryRunReport, LineEstimate
from .submission import DEFAULT_RULES, Rules, submit_stream
from .tables.options import AS_IT_IS, RowOptions
from .tables.source import Source, open_source

PROGRESS_SECONDS = 10.0

STAND_IN = Message("assistant", "x")
"""The shortest answer: it stands for one that is not generated yet."""


async def check(
    stream: BinaryIO | Source,
    batch: NewBatch,
    estimate_of: Callable[[str], ThroughputEstimate | None],
    on_line: Callable[[int], None] = lambda _: None,
    command: tuple[str, ...] = COMMAND,
    rules: Rules = DEFAULT_RULES,
    trial: int = 0,
) -> DryRunReport:
    """Measure every line of a stream; `estimate_of` returns the throughput of a model so far.

    The report has `trial` lines that can be done as its sample, spread over the file.
    `on_line` is called with the number of lines done, `command` starts the model process. With
    `rules.skip_bad` bad lines are counted and left out. Raises `BadLines` as a submit would,
    `NoModel` if neither a line nor the batch names a model, `ModelNotLoaded` if the model that the
    batch names is not found, and `ModelProcessDied` with the line at which the process died.
    """
    report = DryRunReport(batch.source, estimate_of)
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mh-batch-check-") as folder:
        db = open_store(Path(folder) / "check.db")
        try:
            submitted = submit_stream(db, stream, batch, replace(rules, rejects=False))
            report.left_out = submitted.rejected
            report.ignored = submitted.ignored
            due = spread(submitted.jobs, trial)
            async with start_model(Path(folder) / "model.log", command=command) as client:
                for done, line in enumerate(landed_lines(db, submitted.batch_id), start=1):
                    fits = await _check_line(client, batch, line, report, missing)
                    # the next one in place of a line that cannot be done
                    if fits and due and done >= due[0]:
                        report.sample.append(line)
                        del due[0]
                    on_line(done)
        finally:
            db.close()
    return report


async def _check_line(
    client: ModelClient,
    batch: NewBatch,
    line: JobLine,
    report: DryRunReport,
    missing: dict[str, str],
) -> bool:
    """Measure one line; return whether it can be done.

    `missing` maps models that were not found to why: each is tried once.
    """
    try:
        job = _job(batch, line)
        if job.model in missing:
            report.refuse(line.number, missing[job.model])
            return False
        report.take(line.number, job.model, await _estimate(client, job))
        return True
    except (JobError, SettingsError) as error:
        report.refuse(line.number, str(error))
    except ModelProcessDied as error:
        raise ModelProcessDied(f"{batch.source}:{line.number}: {error}") from error
    except ModelNotLoaded as error:
        if line.model is None:
            raise
        missing[line.model] = str(error)
        report.refuse(line.number, str(error))
    return False


def spread(lines: int, most: int) -> list[int]:
    """Return up to `most` of the numbers 1 to `lines`: the first, the last, and some between."""
    if most <= 1:
        return [1] * min(lines, most)
    numbers = (1 + step * (lines - 1) // (most - 1) for step in range(most))
    return list(dict.fromkeys(numbers)) if lines else []


def _job(batch: NewBatch, line: JobLine) -> ClaimedJob:
    """Return the job that a worker would claim for this line today."""
    model = line.model or batch.model
    if model is None:
        raise NoModel(
            f"{batch.source}:{line.number}: names no model, and there is no default; "
            "name one with --model: demo, a local folder, or a hub name"
        )
    settings = apply(batch.settings, line.request.settings)
    return ClaimedJob(
        id=0,
        batch_id=0,
        position=line.number,
        custom_id=line.custom_id,
        model=model,
        request=line.request,
        settings=settings,
        seed=job_seed(settings.seed, line.custom_id),
        date=now()[:10],
    )


async def _estimate(client: ModelClient, job: ClaimedJob) -> LineEstimate:
    """Measure the first prompt of a job, and its last one without the answers in between."""
    action = ConversationRun(job).next()
    assert isinstance(action, Generate), "a job begins with a generation"
    request = action.request
    first = whole = await client.measure(job.model, request)
    to_come = job.request.turns if job.request.asks else job.request.turns[1:]
    if to_come:
        whole = await _measure_whole(client, job.model, request, to_come)
    return LineEstimate(
        prompt_tokens=whole.prompt_tokens,
        max_tokens=min(first.max_tokens, whole.max_tokens),
        asked_tokens=job.settings.sampling.max_tokens,
        dropped_turns=max(first.dropped_turns, whole.dropped_turns),
        answers=(1 + len(to_come)) * job.request.n,
    )


async def _measure_whole(
    client: ModelClient, model: str, request: GenerationRequest, to_come: tuple[str, ...]
) -> Measured:
    """Measure the prompt of the last turn; raises `JobError` for a turn that does not fit alone."""
    known = request.prompt.messages
    played = [message for text in to_come for message in (STAND_IN, Message("user", text))]
    whole = await client.measure(model, _with_messages(request, (*known, *played)))
    if whole.dropped_turns:
        instructions = tuple(m for m in known if m.role in ("system", "developer"))
        for text in to_come:
            alone = _with_messages(request, (*instructions, Message("user", text)))
            await client.measure(model, alone)
    return whole


def _with_messages(request: GenerationRequest, messages: tuple[Message, ...]) -> GenerationRequest:
    return replace(request, prompt=replace(request.prompt, messages=messages))


def dry_run(
    batch: NewBatch,
    db: Path,
    rules: Rules = DEFAULT_RULES,
    rows: RowOptions = AS_IT_IS,
    trial: int = 0,
) -> DryRunReport:
    """Measure the file of a batch; the database at `db`, if any, gives the throughput so far.

    `trial` is how many lines the report is to have as its sample.

    Raises what `check` raises, and `StoreUnusable` for a database that cannot be read.
    """
    with open_source(batch.source, rows) as stream, estimates_in(db) as estimate_of:
        return anyio.run(check, stream, batch, estimate_of, _progress(), COMMAND, rules, trial)


def _progress() -> Callable[[int], None]:
    """Return a function that prints every few seconds how many lines are done."""
    last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"{format_count(done, 'line')} so far", file=sys.stderr, flush=True)

    return show


@contextmanager
def estimates_in(path: Path) -> Iterator[Callable[[str], ThroughputEstimate | None]]:
    """Give a function from a model to its throughput in the database at `path`; `None` for none."""
    if not path.exists():
        yield lambda _: None
        return
    with closing(open_reader(path)) as db:
        yield lambda model: throughput_estimate(db, model)
