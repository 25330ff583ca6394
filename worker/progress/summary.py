"""What a finished drain leaves a person with: how it ended, what went wrong, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.queue.counts import queue_counts
from mh_batch.store.reports.progress import Reason, deaths, reasons
from mh_batch.worker.text.format import count, done, duration, printable

if TYPE_CHECKING:
    from mh_batch.worker.draining.run import Outcome

SHOWN_REASONS = 5
SHOWN_BATCHES = 5


class Night(msgspec.Struct, frozen=True):
    """How a drain went.

    `why` says why it ended, `ended` counts the jobs it finished, `batches` are those they belong
    to. `tokens` were made at `speed` (a second; `None` if nothing was decoded), and all of it took
    `seconds`. `options` is what the commands of the advice need to find the database, with a space
    in front. The model process died so many times (`deaths`), and `left` jobs are queued.
    `rescued` of the jobs that are done have rescued answers. `advice` names a setting to change;
    `None` without any.
    """

    why: str
    stopped: bool
    ended: Mapping[Status, int]
    batches: Sequence[int]
    reasons: Sequence[Reason]
    tokens: int
    speed: float | None
    seconds: float
    options: str = ""
    deaths: int = 0
    left: int = 0
    rescued: int = 0
    advice: str | None = None


def wrap_up(night: Night, *, results: bool) -> Iterator[str]:
    """Yield the lines to print; `results` adds how to get at the answers."""
    idle = "no job was finished" if night.stopped else "nothing to do"
    left = f"; {count(night.left, 'job')} left in the queue" if night.left else ""
    yield f"{night.why}: {_ended(night) or idle}{left}"
    if night.tokens:
        speed = f" at {night.speed:.0f} tok/s" if night.speed else ""
        yield f"{count(night.tokens, 'token')}{speed}, {duration(night.seconds)} in all"
    yield from _what_failed(night)
    if night.deaths:
        recipe = f"`mh-batch query{night.options} --recipe crashes`"
        yield f"the model died {count(night.deaths, 'time')}: {recipe}"
    if night.rescued:
        batch = night.batches[0] if night.batches else "BATCH"
        only = f"`mh-batch results {batch}{night.options} --rescued only`"
        yield f"rescued: the answer was forced from thoughts that had not ended; {only} gives these"
    if night.advice is not None:
        yield night.advice
    if results:
        for batch in night.batches[:SHOWN_BATCHES]:
            yield f"the answers: `mh-batch results {batch}{night.options} -o FILE`"
        if (more := len(night.batches) - SHOWN_BATCHES) > 0:
            yield f"and of {count(more, 'more batch', 'more batches')}"
    if night.stopped:
        yield f"`mh-batch work{night.options}` goes on where this stopped"


def _ended(night: Night) -> str:
    """Return how many jobs ended in each status, nothing if none did."""
    counts = [
        done(jobs, night.rescued) if status is Status.DONE else f"{jobs:,} {status}"
        for status in Status
        if (jobs := night.ended.get(status, 0))
    ]
    return ("; " if night.rescued else ", ").join(counts)


def _what_failed(night: Night) -> Iterator[str]:
    """Yield the most frequent reasons, and how to look at a job."""
    for reason in night.reasons[:SHOWN_REASONS]:
        why = f": {reason.error_code}" if reason.error_code else ""
        first = f"the first is {printable(reason.custom_id)}"
        yield f"  {count(reason.jobs, 'job')} {reason.status}{why} ({first})"
    if more := sum(reason.jobs for reason in night.reasons[SHOWN_REASONS:]):
        yield f"  {count(more, 'job')} for other reasons"
    if night.reasons:
        job = night.reasons[0].job_id
        yield f"what became of one: `mh-batch show {job}{night.options} --attempts`"
        names = ",".join(sorted({reason.status for reason in night.reasons}))
        batch = night.batches[0] if night.batches else "BATCH"
        yield f"all of them: `mh-batch results {batch}{night.options} --status {names}`"


def night_of(outcome: "Outcome", db: Database, options: str) -> Night:
    """Return how the drain with this outcome went; `options` as in `Night`."""
    tally = outcome.tally
    return Night(
        why=outcome.reason.replace("_", " "),
        stopped=outcome.stopped,
        ended=tally.ended,
        batches=sorted(tally.batches),
        reasons=reasons(db, outcome.run_id),
        tokens=tally.tokens,
        speed=tally.tokens_per_second,
        seconds=outcome.seconds,
        options=options,
        deaths=deaths(db, outcome.run_id),
        left=queue_counts(db)[Status.QUEUED],
        rescued=tally.rescued,
        advice=tally.room.advice(options),
    )
