"""`mh-batch work` and `mh-batch run`: answer what is queued."""

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mh_batch.jobs.errors import MhBatchError

from . import options as opt
from .shared import (
    batch_model,
    checked_order,
    drain_options,
    leave,
    read_config,
    reading_from,
    say,
    settings_of,
    submit_file,
    write_out,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mh_batch.worker.draining.run import Outcome
    from mh_batch.worker.options import DrainOptions
    from mh_batch.worker.progress.notice import Notice


def work(
    db: opt.Db = opt.DEFAULT_DB,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    parallel: opt.Parallel = None,
    mix: opt.Mix = False,
    allow_variance: opt.AllowVariance = False,
    recycle_bytes: opt.RecycleBytes = None,
    prefix_cache_bytes: opt.PrefixCacheBytes = None,
    artifacts: opt.Artifacts = None,
    allow_sleep: opt.AllowSleep = False,
    hang_seconds: opt.HangSeconds = None,
    max_crashes: opt.MaxCrashes = None,
    accept: opt.Accept = None,
    max_jobs: opt.MaxJobs = None,
    until: opt.Until = None,
    notify: opt.Notify = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and run new jobs as they are submitted.")
    ] = False,
) -> None:
    """Answer the queued conversations until none is left.

    One by one, or several at once with --parallel.
    """
    from mh_batch.store.connection import require_store

    # a mistyped --db must not make a new, empty database
    require_store(db)
    given = {
        "adapter": adapter,
        "parallel": parallel,
        "mix": mix,
        "allow_variance": allow_variance,
        "recycle_bytes": recycle_bytes,
        "prefix_cache_bytes": prefix_cache_bytes,
        "artifacts": artifacts,
        "hang_seconds": hang_seconds,
        "max_crashes": max_crashes,
        "accept": accept,
        "max_jobs": max_jobs,
        "until": until,
        "watch": watch,
    }
    config = read_config()
    options = drain_options(config, db, model, given)
    with _notifying(notify or config.notify, db) as notice:
        outcome = _drain(options, notice, allow_sleep=allow_sleep, results=True)
        leave(outcome.exit_code)


def run(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="JSON lines (- is stdin), CSV, Parquet, or a data set."
        ),
    ],
    output: opt.Output,
    db: opt.Db = opt.DEFAULT_DB,
    name: opt.Name = None,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    override_model: opt.OverrideModel = False,
    priority: opt.Priority = 0,
    profile: opt.Profile = None,
    assignments: opt.Set = None,
    schema: opt.Schema = None,
    prompt: opt.Prompt = None,
    template: opt.Template = None,
    pairs: opt.Map = None,
    system: opt.System = None,
    n: opt.Choices = None,
    max_tokens: opt.MaxTokens = None,
    temperature: opt.Temperature = None,
    limit: opt.Limit = None,
    sample: opt.Sample = None,
    seed: opt.SampleSeed = None,
    repeat: opt.Repeat = None,
    order: opt.Order = "submission",
    skip_bad: opt.SkipBad = False,
    ignore_unknown: opt.IgnoreUnknown = False,
    again: opt.Again = False,
    max_line_mib: opt.MaxLine = None,
    parallel: opt.Parallel = None,
    accept: opt.Accept = None,
    mix: opt.Mix = False,
    allow_variance: opt.AllowVariance = False,
    recycle_bytes: opt.RecycleBytes = None,
    prefix_cache_bytes: opt.PrefixCacheBytes = None,
    artifacts: opt.Artifacts = None,
    allow_sleep: opt.AllowSleep = False,
    hang_seconds: opt.HangSeconds = None,
    max_crashes: opt.MaxCrashes = None,
    max_jobs: opt.MaxJobs = None,
    until: opt.Until = None,
    notify: opt.Notify = None,
    form: opt.Format = None,
    rescued: opt.RescuedAnswers = None,
    raw_csv: opt.RawCsv = False,
) -> None:
    """Submit FILE, work until the queue is empty, write the results.

    If FILE is a batch already, continue that batch.
    """
    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.results.formats import format_of
    from mh_batch.jobs.results.selection import Selection
    from mh_batch.worker.output.export import Export, check_export
    from mh_batch.worker.submission.source import batch_name, give_large_blocks_back
    from mh_batch.worker.submission.submission import Rules
    from mh_batch.worker.submission.tables.options import RowOptions

    chosen = {"limit": limit, "sample": sample, "seed": seed, "repeat": repeat}
    rows = RowOptions.parse(prompt, template, pairs or (), system=system, n=n, **chosen)
    selection = Selection.parse(None, None, [], rescued)
    export = Export(output, form or format_of(output), selection, raw_csv=raw_csv)
    check_export(export, db, *([] if file == "-" else [file]))
    config = read_config()
    settings, names = settings_of(
        config, profile, assignments, schema, max_tokens=max_tokens, temperature=temperature
    )
    given = {
        "adapter": adapter,
        "parallel": parallel,
        "mix": mix,
        "allow_variance": allow_variance,
        "recycle_bytes": recycle_bytes,
        "prefix_cache_bytes": prefix_cache_bytes,
        "artifacts": artifacts,
        "hang_seconds": hang_seconds,
        "max_crashes": max_crashes,
        "accept": accept,
        "max_jobs": max_jobs,
        "until": until,
    }
    options = drain_options(config, db, model, given)
    batch = NewBatch(
        name or batch_name(file),
        file,
        settings,
        # the configured model is a default: it is the batch's only where it overrides others
        options.model if override_model else batch_model(config, model, adapter),
        priority=priority,
        order=checked_order(order),
        override_model=override_model,
        given=names,
    )
    most = max_line_mib or config.max_line_mib
    rules = Rules(skip_bad, again, max_line_mib=most, ignore_unknown=ignore_unknown)
    give_large_blocks_back()
    batch_id = submit_file(db, batch, rules, rows, continue_known=True)
    with _notifying(notify or config.notify, db) as notice:
        outcome = _drain(options, notice, allow_sleep=allow_sleep, results=False)
        if outcome.fault is not None:
            leave(outcome.exit_code)
        if outcome.stopped:
            say(f"then `mh-batch results {batch_id} -o {output}` writes the results")
            leave(1)
        write_out(db, [str(batch_id)], export)
        # what failed in an earlier run of the same file is in the results too
        leave(outcome.exit_code or _unsuccessful(db, batch_id))


@contextmanager
def _notifying(command: str | None, db: Path) -> "Iterator[Notice | None]":
    """Run a command at the end of the block, however that comes; `None` runs none."""
    if command is None:
        yield None
        return
    from mh_batch.worker.progress.notice import Notice

    notice = Notice(command, db, say)
    with notice.at_the_end(_exit_code):
        yield notice


def _exit_code(error: BaseException) -> int | None:
    """Return the code that an exception ends a command with; `None` if it is a fault of ours."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, MhBatchError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else None


def _drain(
    options: "DrainOptions", notice: "Notice | None", *, allow_sleep: bool, results: bool
) -> "Outcome":
    """Drain the queue and print a summary, also if a fault ended it."""
    import anyio

    from mh_batch.jobs.errors import StoreUnusable
    from mh_batch.worker.draining.reporter import nothing_to_do
    from mh_batch.worker.draining.run import work as drain_queue
    from mh_batch.worker.progress.display import open_display
    from mh_batch.worker.progress.summary import summarize_run, wrap_up
    from mh_batch.worker.runtime.keep_awake import keep_awake

    if not allow_sleep and (note := keep_awake()):
        say(note)
    on_idle = nothing_to_do if notice is None else notice.idle
    display = open_display(options.db)
    outcome = anyio.run(partial(drain_queue, options, display, raises=False, on_idle=on_idle))
    if notice is not None:
        notice.outcome = outcome
    if isinstance(outcome.fault, StoreUnusable):
        raise outcome.fault
    with reading_from(options.db) as reader:
        summary = summarize_run(outcome, reader, _db_option(options.db))
    for line in wrap_up(summary, results=results):
        say(line)
    return outcome


def _db_option(db: Path) -> str:
    """Return the option with which a command finds this database from here, a space in front."""
    import shlex

    found = os.environ.get("MH_BATCH_DB") or str(opt.DEFAULT_DB)
    return "" if str(db) == found else f" --db {shlex.quote(str(db))}"


def _unsuccessful(db: Path, batch_id: int) -> int:
    """Return 1 if a job of the batch failed or is incomplete, else 0."""
    from mh_batch.jobs.status import NOT_WELL
    from mh_batch.store.reports.batches import batch_reports

    with reading_from(db) as reader:
        (report,) = batch_reports(reader, batch_id)
    return int(report.count(NOT_WELL) > 0)
