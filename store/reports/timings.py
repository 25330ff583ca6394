"""Speed, gaps and memory from the timing rows, by context length and by time."""

from datetime import datetime

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.connection import snapshot
from mh_batch.store.sql import BatchQueries, statements

from .batches import batch_reports

HOUR = 3600
MOST_CONTEXT_BINS = 12
MOST_TIME_BINS = 60
MOST_OFF = 50
_SMALLEST_CONTEXT_BIN = 16
# round numbers of seconds, from one second to a month
_ROUND_SECONDS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 48 * HOUR, 168 * HOUR, 720 * HOUR),
)


class Totals(msgspec.Struct, frozen=True):
    """Sums over all attempts: seconds, tokens and bytes; `None` if nothing was measured.

    `queue_seconds` is the time outside the model's own work. Attempts that decoded side by side
    count their `decode_seconds` each, `stall_seconds` of which went to the prompts of others;
    `machine_seconds` is what all of them took of the machine. `rows` is how many slots were busy on
    average over that time, `parallel` the largest number of slots.
    """

    jobs: int
    attempts: int
    started_at: str | None
    finished_at: str | None
    prompt_tokens: int
    reused_tokens: int
    completion_tokens: int
    tokens_per_second: float | None
    prefill_tokens_per_second: float | None
    queue_seconds: float
    render_seconds: float
    prefill_seconds: float
    decode_seconds: float
    parse_seconds: float
    longest_gap_seconds: float | None
    longest_context: int | None
    process_memory_bytes: int | None
    peak_memory_bytes: int | None
    stall_seconds: float = 0.0
    machine_seconds: float = 0.0
    rows: float | None = None
    parallel: int | None = None

    @property
    def began(self) -> float:
        """When the first attempt began, in seconds since 1970; 0 without one."""
        return _epoch(self.started_at)

    @property
    def ended(self) -> float:
        """When the last attempt ended, in seconds since 1970; 0 without one."""
        return _epoch(self.finished_at)


class Off(msgspec.Struct, frozen=True):
    """A time between two runs of the worker, in seconds since 1970."""

    began: float
    ended: float


class ContextBin(msgspec.Struct, frozen=True):
    """Attempts that ended with `kv_from` to `kv_to` positions in their longest cache.

    A tenth of them decoded no faster than `slow_tenth`, a tenth at least as fast as `fast_tenth`.
    """

    kv_from: int
    kv_to: int
    attempts: int
    tokens_per_second: float | None
    slow_tenth: float | None
    fast_tenth: float | None
    prefill_tokens_per_second: float | None


class TimeBin(msgspec.Struct, frozen=True):
    """Attempts that ended from `at` (seconds since 1970, UTC) on; bytes are the highest seen.

    The first of them began at `began`, maybe before `at`.
    """

    at: int
    began: float
    jobs: int
    attempts: int
    completion_tokens: int
    tokens_per_second: float | None
    prefill_tokens_per_second: float | None
    queue_seconds: float
    process_memory_bytes: int
    peak_memory_bytes: int
    active_memory_bytes: int
    cache_memory_bytes: int


class Refusals(msgspec.Struct, frozen=True):
    """Attempts refused for one `reason`, each counted with its continuation.

    After `gave_up` of them there was no further attempt, after `next_accepted` the next one was
    accepted, in `next_rescued` cases with an answer forced from unfinished thoughts. The tokens and
    seconds are their cost.
    """

    reason: str
    attempts: int
    gave_up: int
    next_accepted: int
    completion_tokens: int
    model_seconds: float
    next_rescued: int = 0


class TimingReport(msgspec.Struct, frozen=True):
    """The numbers of one batch, or of all: at most `MOST_...` bins, and each hour with attempts.

    `typical_gap_seconds` is the median time between attempts, a twentieth exceed `bad_gap_seconds`;
    `None` without attempts. A bin of `by_time` takes `time_width` seconds. `done` jobs are done,
    `rescued` of them with a forced answer. `off` are the longest times between its first and its
    last attempt when no worker ran, in order.
    """

    totals: Totals
    typical_gap_seconds: float | None
    bad_gap_seconds: float | None
    by_context: tuple[ContextBin, ...]
    by_hour: tuple[TimeBin, ...]
    time_width: int
    by_time: tuple[TimeBin, ...]
    refusals: tuple[Refusals, ...]
    done: int = 0
    rescued: int = 0
    off: tuple[Off, ...] = ()

    @property
    def off_seconds(self) -> float:
        """How long no worker ran between the first attempt and the last."""
        return sum(off.ended - off.began for off in self.off)


def timing_report(db: Database, batch_id: int | None) -> TimingReport:
    """Return the numbers of a batch, or of everything for `None`: one state of the database."""
    with snapshot(db):
        queries = _queries(db, batch_id)
        (totals,) = queries.rows("totals", Totals)
        count = totals.attempts
        off = sorted(queries.rows("off", Off, most=MOST_OFF), key=lambda off: off.began)
        on = totals.ended - totals.began - sum(one.ended - one.began for one in off)
        width = time_width(on, count)
        batches = batch_reports(db, batch_id, archived=True)
        return TimingReport(
            totals=totals,
            typical_gap_seconds=queries.value("gap", place=count // 2) if count else None,
            bad_gap_seconds=queries.value("gap", place=count * 19 // 20) if count else None,
            by_context=queries.rows(
                "by_context", ContextBin, width=context_width(totals.longest_context or 0)
            ),
            by_hour=queries.rows("by_time", TimeBin, width=HOUR),
            time_width=width,
            by_time=queries.rows("by_time", TimeBin, width=width),
            refusals=queries.rows("refusals", Refusals),
            done=sum(batch.counts[Status.DONE] for batch in batches),
            rescued=sum(batch.rescued for batch in batches),
            off=tuple(off),
        )


def context_width(longest: int) -> int:
    """Return the positions in a bin: a power of two that makes at most `MOST_CONTEXT_BINS`."""
    width = _SMALLEST_CONTEXT_BIN
    while longest // width >= MOST_CONTEXT_BINS:
        width *= 2
    return width


def time_width(seconds: float, attempts: int) -> int:
    """Return the seconds in a bin: a round number, for few bins with several attempts each."""
    least = max(seconds / MOST_TIME_BINS, 3 * seconds / max(attempts, 1))
    return round_seconds(min(least, seconds / 2))


def round_seconds(least: float) -> int:
    """Return the smallest round number of seconds from `least` on."""
    return next((width for width in _ROUND_SECONDS if width >= least), _ROUND_SECONDS[-1])


def _epoch(at: str | None) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def _queries(db: Database, batch_id: int | None) -> BatchQueries:
    """Return the statements of the file, each over the rows of one batch or of all."""
    found = statements("reports/timings.sql")
    measured = found["of_all" if batch_id is None else "of_batch"].sql
    return BatchQueries(
        db, batch_id, {name: f"{measured}{entry.sql}" for name, entry in found.items()}
    )
