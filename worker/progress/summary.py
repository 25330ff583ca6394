"""The summary after a drain: how it ended, what failed, and what to do next."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.status import Status
from mh_batch.store.counts import queue_counts
from mh_batch.store.reports.progress import Reason, deaths, reasons
from mh_batch.worker.text.format import format_count, format_done, format_duration, printable

if TYPE_CHECKING:
    from mh_batch.worker.draining.run import Outcome

SHOWN_REASONS = 5
SHOWN_BATCHES = 5
LONGEST_REPEATED = 160
"""The most characters of a message that are shown twice."""


class RunSummary(msgspec.Struct, frozen=True):
    """How a drain went.

    `why` is the reason that it ended, `ended` counts the jobs that it finished by status,
    `batches` are the batches of these jobs. `tokens` were generated at `speed` (tokens a second;
    `None` if nothing was decoded) in `seconds` of wall time. `options` is what a command needs to
    find the database, with a space in front. `deaths` counts the deaths of the model process,
    `left` the queued jobs, `rescued` the done jobs with rescued answers. `advice` names a setting
    to change, `fault` is what kept the drain from going on; `None` for none.
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
    fault: str | None = None


def wrap_up(summary: RunSummary, *, results: bool) -> Iterator[str]:
    """Yield the lines to print; `results` adds the commands that write the answers."""
    idle = "no job was finished" if summary.stopped or summary.fault else "nothing to do"
    jobs = format_count(summary.left, "job")
    left = f"; {jobs} left in the queue" if summary.left and not summary.fault else ""
    yield f"{summary.why}: {_ended(summary) or idle}{left}"
    if summary.tokens:
        speed = f" at {summary.speed:.0f} tok/s" if summary.speed else ""
        tokens = format_count(summary.tokens, "token")
        yield f"{tokens}{speed}, {format_duration(summary.seconds)} in all"
    yield from _what_failed(summary)
    if summary.deaths:
        recipe = f"`mh-batch query{summary.options} --recipe crashes`"
        yield f"the model died {format_count(summary.deaths, 'time')}: {recipe}"
    if summary.rescued:
        batch = summary.batches[0] if summary.batches else "BATCH"
        only = f"`mh-batch results {batch}{summary.options} --rescued only`"
        yield f"rescued: the answer was forced from unfinished thoughts; {only} writes these"
    if summary.advice is not None:
        yield summary.advice
    if results:
        for batch in summary.batches[:SHOWN_BATCHES]:
            yield f"the answers: `mh-batch results {batch}{summary.options} -o FILE`"
        if (more := len(summary.batches) - SHOWN_BATCHES) > 0:
            yield f"and of {format_count(more, 'more batch', 'more batches')}"
    if summary.stopped:
        yield f"`mh-batch work{summary.options}` goes on where this stopped"
    if summary.fault:
        yield f"mh-batch: {jobs} {'stays' if summary.left == 1 else 'stay'} queued: {summary.fault}"


def _ended(summary: RunSummary) -> str:
    """Return how many jobs ended in each status; empty if none did."""
    counts = [
        format_done(jobs, summary.rescued) if status is Status.DONE else f"{jobs:,} {status}"
        for status in Status
        if (jobs := summary.ended.get(status, 0))
    ]
    return ("; " if summary.rescued else ", ").join(counts)


def _what_failed(summary: RunSummary) -> Iterator[str]:
    for reason in summary.reasons[:SHOWN_REASONS]:
        why = f": {reason.error_code}" if reason.error_code else ""
        first = f"the first is {printable(reason.custom_id)}"
        yield f"  {format_count(reason.jobs, 'job')} {reason.status}{why} ({first})"
    if more := sum(reason.jobs for reason in summary.reasons[SHOWN_REASONS:]):
        yield f"  {format_count(more, 'job')} for other reasons"
    if summary.reasons:
        job = summary.reasons[0].job_id
        yield f"what became of one: `mh-batch show {job}{summary.options} --attempts`"
        names = ",".join(sorted({reason.status for reason in summary.reasons}))
        batch = summary.batches[0] if summary.batches else "BATCH"
        yield f"all of them: `mh-batch results {batch}{summary.options} --status {names}`"


def summarize_run(outcome: "Outcome", db: Database, options: str) -> RunSummary:
    """Build the summary of a drain from its outcome; `options` as in `RunSummary`."""
    tally = outcome.tally
    return RunSummary(
        why="ended early" if outcome.fault else outcome.reason.replace("_", " "),
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
        advice=tally.length_refusals.advice(options),
        fault=brief(outcome.fault) if outcome.fault else None,
    )


def brief(fault: EnvironmentFault) -> str:
    """Return why jobs stay queued; of a long message that was shown already, how it begins."""
    text = str(fault)
    if not fault.noted or len(text) <= LONGEST_REPEATED:
        return text
    return ": ".join(text.split(": ")[:2])[:LONGEST_REPEATED] + " (all of it is above)"
