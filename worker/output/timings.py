"""`mh-batch timings`: speeds, gaps and memory as tables, as JSON or as charts."""

from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from mh_batch.jobs.errors import InputError
from mh_batch.store.connection import location
from mh_batch.store.lookup import BatchRow, find_batch
from mh_batch.store.reports.timings import TimingReport, Totals, timing_report
from mh_batch.worker.output.charts.timing_charts import charts
from mh_batch.worker.text.console import print_table
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import (
    format_count,
    format_done,
    format_duration,
    format_number,
    format_percent,
    format_seconds,
    format_size,
)

from .files import check_output, print_json, write_output

HOURS_SHOWN = 48


def timings(db: Database, ref: str | None, plot: Path | None, as_json: bool) -> None:
    """Print the figures of a batch, `None` for all batches; `plot` also draws them as PNG.

    Raises `InputError` if there is nothing to draw, or nothing to draw it with.
    """
    if plot is not None:
        _check_plot(plot, location(db))
    batch = find_batch(db, ref) if ref else None
    report = timing_report(db, batch.id if batch else None)
    if as_json:
        print_json(report)
    elif report.totals.attempts == 0:
        print(f"{escape_controls(title(batch))}: no attempt yet; `mh-batch work` makes them")
    else:
        _print(report, batch)
    if plot is not None:
        _draw(report, batch, plot)


def title(batch: BatchRow | None) -> str:
    """Return what the figures are about."""
    return f"batch {batch.id} ({batch.name})" if batch else "all batches"


def summary(report: TimingReport) -> list[tuple[str, str]]:
    """Return the main figures with their labels, formatted."""
    t = report.totals
    prompt = f"{t.prompt_tokens:,} in prompts"
    reused = f"{format_percent(t.reused_tokens, t.prompt_tokens)} of them reused"
    return [
        (
            "jobs, attempts",
            f"{format_count(t.jobs, 'job')}, {format_count(t.attempts, 'attempt')}; "
            f"{format_done(report.done, report.rescued)}",
        ),
        ("from, to (UTC)", f"{moment(t.started_at)} to {moment(t.finished_at)}"),
        ("duration", duration(report)),
        ("tokens", f"{t.completion_tokens:,} generated, {prompt} ({reused})"),
        ("decode speed", f"{format_number(t.tokens_per_second)} tokens/s"),
        *slots(t),
        ("prefill speed", f"{format_number(t.prefill_tokens_per_second)} tokens/s"),
        ("time went to", time_shares(t)),
        (
            "gap before an attempt",
            f"median {format_seconds(report.typical_gap_seconds)}, 95% within "
            f"{format_seconds(report.bad_gap_seconds)}, "
            f"longest {format_seconds(t.longest_gap_seconds)}, "
            f"together {format_seconds(t.queue_seconds)}",
        ),
        (
            "memory, highest",
            f"process {format_size(t.process_memory_bytes or 0)}, "
            f"model {format_size(t.peak_memory_bytes or 0)}",
        ),
        ("longest context", f"{t.longest_context or 0:,} positions"),
    ]


def duration(report: TimingReport) -> str:
    """Return how long it took from the first attempt to the last, and how long no worker ran."""
    whole = max(0.0, report.totals.ended - report.totals.began)
    off = report.off_seconds
    return format_duration(whole) + (
        f", of which no worker ran for {format_duration(off)}" if round(off) else ""
    )


def slots(totals: Totals) -> list[tuple[str, str]]:
    """Return how several conversations shared the machine, if there were several at once."""
    t = totals
    if (t.parallel or 1) == 1:
        return []
    busy = f"{format_number(t.rows)} of {t.parallel} busy on average"
    return [
        ("slots", busy if t.rows is not None else f"{t.parallel}"),
        (
            "lost to other prompts",
            f"{format_percent(t.stall_seconds, t.decode_seconds)} of the attempts' decoding time, "
            f"together {format_seconds(t.stall_seconds)}",
        ),
    ]


def time_shares(totals: Totals) -> str:
    """Return what the time went to; with several conversations at once, the model's time."""
    t = totals
    parts = {"prefill": t.prefill_seconds, "decoding": t.machine_seconds}
    every = t.render_seconds + t.prefill_seconds + t.machine_seconds + t.parse_seconds
    if (t.parallel or 1) == 1:
        # where several wait at once, their waits are no share of the clock
        parts["waiting"] = t.queue_seconds
        every += t.queue_seconds
    return ", ".join(f"{name} {format_percent(part, every)}" for name, part in parts.items())


def moment(at: str | None) -> str:
    """Return a time of the database to the second; `-` for `None`."""
    return at[:19].replace("T", " ") if at else "-"


def refusal_rows(report: TimingReport) -> list[list[str]]:
    """Return one row per reason for refused attempts: counts, tokens and time spent."""
    return [
        [
            r.reason,
            f"{r.attempts:,}",
            f"{r.next_accepted:,}",
            f"{r.next_rescued:,}",
            f"{r.gave_up:,}",
            f"{r.completion_tokens:,}",
            format_seconds(r.model_seconds),
        ]
        for r in report.refusals
    ]


REFUSAL_COLUMNS = ("reason", "attempts", "next taken", "rescued", "gave up", "tokens", "model time")


def _print(report: TimingReport, batch: BatchRow | None) -> None:
    print_table((title(batch), ""), summary(report))
    _section("by context length (positions in the cache at the end)")
    columns = ("from", "to", "attempts", "tok/s", "slow 10%", "fast 10%", "prefill tok/s")
    print_table(
        columns,
        [
            [
                f"{b.kv_from:,}",
                f"{b.kv_to:,}",
                f"{b.attempts:,}",
                format_number(b.tokens_per_second),
                format_number(b.slow_tenth),
                format_number(b.fast_tenth),
                format_number(b.prefill_tokens_per_second),
            ]
            for b in report.by_context
        ],
    )
    _print_hours(report)
    if report.refusals:
        _section("why attempts were refused")
        print_table(REFUSAL_COLUMNS, refusal_rows(report))


def _print_hours(report: TimingReport) -> None:
    shown = report.by_hour[-HOURS_SHOWN:]
    left_out = len(report.by_hour) - len(shown)
    _section("by hour (UTC)" + (f", the last {HOURS_SHOWN}; --json gives all" if left_out else ""))
    columns = ("hour", "jobs", "attempts", "tokens", "tok/s", "prefill tok/s", "gaps", "memory")
    print_table(
        columns,
        [
            [
                f"{datetime.fromtimestamp(b.at, UTC):%Y-%m-%d %H:00}",
                f"{b.jobs:,}",
                f"{b.attempts:,}",
                f"{b.completion_tokens:,}",
                format_number(b.tokens_per_second),
                format_number(b.prefill_tokens_per_second),
                format_seconds(b.queue_seconds),
                format_size(b.process_memory_bytes),
            ]
            for b in shown
        ],
    )


def _section(text: str) -> None:
    print(f"\n{text}")


def _check_plot(plot: Path, db: Path) -> None:
    from mh_batch.worker.output.charts.png import require_matplotlib

    if str(plot) == "-":
        raise InputError("--plot -: name a file, such as night.png")
    check_output(str(plot), db, what="the picture")
    require_matplotlib()


def _draw(report: TimingReport, batch: BatchRow | None, plot: Path) -> None:
    from mh_batch.worker.output.charts.png import draw_charts

    t = report.totals
    if t.attempts == 0:
        raise InputError(f"--plot: {title(batch)}: nothing to draw before the first attempt")
    span = f"{moment(t.started_at)[:16]} to {moment(t.finished_at)[:16]} UTC"
    heading = f"mh-batch, {title(batch)}: {format_count(t.attempts, 'attempt')}, {span}"
    write_output(plot, draw_charts(charts(report), heading))
