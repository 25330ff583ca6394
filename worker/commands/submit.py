"""`mh-batch submit`: files of conversations into the queue, or measured against the model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.worker.text.escape import escape_controls

from . import options as opt
from .shared import batch_model, checked_order, leave, read_config, settings_of, submit_file

if TYPE_CHECKING:
    from mh_batch.jobs.record import NewBatch
    from mh_batch.worker.config import Config
    from mh_batch.worker.submission.submission import Rules
    from mh_batch.worker.submission.tables.options import RowOptions


def submit(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="JSON lines (- is stdin), CSV, Parquet, or a data set."
        ),
    ],
    db: opt.Db = opt.DEFAULT_DB,
    name: opt.Name = None,
    model: opt.BatchModel = None,
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
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Queue nothing; report what does not fit and how long it takes."
        ),
    ] = False,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            min=1,
            max=opt.MOST_TRIED,
            metavar="N",
            help="With --check: answer N lines, which are not kept, to see answers and speed.",
        ),
    ] = None,
    skip_bad: opt.SkipBad = False,
    ignore_unknown: opt.IgnoreUnknown = False,
    again: opt.Again = False,
    max_line_mib: opt.MaxLine = None,
) -> None:
    """Queue the conversations of each FILE, all of them or none."""
    from mh_batch.jobs.record import NewBatch
    from mh_batch.worker.submission.source import batch_name, give_large_blocks_back
    from mh_batch.worker.submission.submission import Rules
    from mh_batch.worker.submission.tables.options import RowOptions

    if trial is not None and not check:
        raise InputError("--trial: only with --check; `submit` queues all lines")
    chosen = {"limit": limit, "sample": sample, "seed": seed, "repeat": repeat}
    rows = RowOptions.parse(prompt, template, pairs or (), system=system, n=n, **chosen)
    config = read_config()
    most = max_line_mib or config.max_line_mib
    rules = Rules(skip_bad, again, max_line_mib=most, ignore_unknown=ignore_unknown)
    give_large_blocks_back()
    settings, names = settings_of(
        config, profile, assignments, schema, max_tokens=max_tokens, temperature=temperature
    )
    all_fit = True
    for source in files:
        batch = NewBatch(
            name=name or batch_name(source),
            source=source,
            settings=settings,
            model=batch_model(config, model, adapter),
            priority=priority,
            order=checked_order(order),
            override_model=override_model,
            given=names,
        )
        if check:
            all_fit = _check(db, batch, rules, rows, config, trial or 0) and all_fit
        else:
            submit_file(db, batch, rules, rows)
    leave(0 if all_fit else 1)


def _check(
    db: Path,
    batch: "NewBatch",
    rules: "Rules",
    rows: "RowOptions",
    config: "Config",
    trial: int,
) -> bool:
    """Print the report of a dry run; return whether every line can be done.

    So many of the lines are answered on `trial`.
    """
    from msgspec.structs import replace

    from mh_batch.worker.model_choice import default_model
    from mh_batch.worker.submission.dry_run import dry_run

    default = batch.model or default_model(config, os.environ.get("MH_BATCH_MODEL"), None)
    batch = replace(batch, model=default)
    report = dry_run(batch, db, rules, rows, trial)
    if report.sample:
        from mh_batch.worker.trial import run_trial

        tried = run_trial(batch, report.sample, config, batch.model)
        report.use_trial(tried.throughput, list(tried.lines(batch.source)))
    for line in report.lines():
        typer.echo(escape_controls(line))
    return report.all_fit
