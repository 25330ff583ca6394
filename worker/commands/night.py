"""The night: draining the queue, looking on, taking jobs out and putting them back."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.settings import MOST, MOST_BYTES

from .options import (
    DEFAULT_DB,
    Again,
    AllowSleep,
    Artifacts,
    BatchRef,
    Db,
    Format,
    Model,
    Order,
    Output,
    OverrideModel,
    Profile,
    RawCsv,
    RescuedAnswers,
    Set,
    Targets,
)
from .shared import (
    checked_order,
    drain,
    leave,
    model_name,
    reading_from,
    say,
    settings_of,
    submit_file,
    task_of,
    write_out,
)


def work(
    db: Db = DEFAULT_DB,
    model: Model = None,
    recycle_bytes: Annotated[
        int | None,
        typer.Option(
            "--recycle-bytes",
            min=1,
            max=MOST_BYTES,
            help="Start a new model process between jobs once it holds more memory than this.",
        ),
    ] = None,
    prefix_cache_bytes: Annotated[
        int | None,
        typer.Option(
            "--prefix-cache-bytes",
            min=0,
            max=MOST_BYTES,
            help="Memory for beginnings that prompts share, else a 64th of all; 0 keeps none.",
        ),
    ] = None,
    artifacts: Artifacts = None,
    allow_sleep: AllowSleep = False,
    hang_seconds: Annotated[
        float | None,
        typer.Option(
            "--hang-seconds",
            min=1,
            help="Kill a model process that gives no sign of life for so long [default: 300].",
        ),
    ] = None,
    max_crashes: Annotated[
        int | None,
        typer.Option(
            "--max-crashes",
            min=1,
            max=MOST,
            help="Fail a job after so many deaths of the model on one attempt [default: 2].",
        ),
    ] = None,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", min=1, max=MOST, help="End after so many jobs.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="HH:MM", help="End when the clock next shows this."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and take up new work as it comes.")
    ] = False,
) -> None:
    """Answer the queued conversations, one by one, until none is left."""
    from msgspec.structs import replace

    from mh_batch.store.connection import require_store
    from mh_batch.worker.runtime.stop import parse_clock

    # a mistyped --db must not make a new, empty database
    require_store(db)
    given = {
        "recycle_bytes": recycle_bytes,
        "hang_seconds": hang_seconds,
        "max_crashes": max_crashes,
        "max_jobs": max_jobs,
        "until": parse_clock(until) if until else None,
        "watch": watch,
    }
    task = task_of(db, model, artifacts)
    task = replace(task, **{name: value for name, value in given.items() if value is not None})
    if prefix_cache_bytes is not None:
        engine = replace(task.engine, prefix_cache_bytes=prefix_cache_bytes)
        task = replace(task, engine=engine)
    leave(drain(task, allow_sleep=allow_sleep, results=True).exit_code)


def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is stdin.")],
    output: Output,
    db: Db = DEFAULT_DB,
    model: Model = None,
    override_model: OverrideModel = False,
    profile: Profile = None,
    assignments: Set = None,
    form: Format = "openai",
    rescued: RescuedAnswers = None,
    order: Order = "submission",
    artifacts: Artifacts = None,
    allow_sleep: AllowSleep = False,
    again: Again = False,
    raw_csv: RawCsv = False,
) -> None:
    """Submit FILE, work until the queue is empty, write the results.

    A second time it goes on with the batch that FILE is already.
    """
    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.results.selection import Selection
    from mh_batch.worker.config import read_config
    from mh_batch.worker.output.export import Export, check_export
    from mh_batch.worker.submission.allocator import give_large_blocks_back
    from mh_batch.worker.submission.submission import Rules, batch_name

    selection = Selection.parse(None, None, [], rescued)
    export = Export(output, form, selection, raw_csv=raw_csv)
    check_export(export, db, *([] if file == "-" else [file]))
    settings, task = settings_of(profile, assignments), task_of(db, model, artifacts)
    batch = NewBatch(
        batch_name(file),
        file,
        settings,
        # what the configuration names is for this batch only where it takes the place of others
        task.model if override_model else model_name(model),
        order=checked_order(order),
        override_model=override_model,
    )
    rules = Rules(again=again, max_line_mib=read_config(Path.cwd()).max_line_mib)
    give_large_blocks_back()
    batch_id = submit_file(db, batch, rules, go_on=True)
    outcome = drain(task, allow_sleep=allow_sleep, results=False)
    if outcome.stopped:
        say(f"then `mh-batch results {batch_id} -o {output}` writes the results")
        leave(1)
    write_out(db, str(batch_id), export)
    # what failed in an earlier run of the same file is in the results too
    leave(outcome.exit_code or _unsuccessful(db, batch_id))


def _unsuccessful(db: Path, batch_id: int) -> int:
    """Return 1 if a job of the batch did not go well, else 0."""
    from mh_batch.jobs.status import NOT_WELL
    from mh_batch.store.reports.batches import batch_reports

    with reading_from(db) as reader:
        (report,) = batch_reports(reader, batch_id)
    return int(report.count(NOT_WELL) > 0)


def status(
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on showing it until nothing is left, or Ctrl-C.")
    ] = False,
) -> None:
    """Show each batch: jobs that wait, are done, failed; tokens, speed."""
    if watch and json:
        raise InputError("--watch and --json: choose one")
    if watch:
        from mh_batch.worker.progress.status_watch import watch_batch

        watch_batch(db, batch)
        return
    from mh_batch.worker.output import tables

    with reading_from(db) as reader:
        tables.print_status(reader, batch, json)


def cancel(targets: Targets, db: Db = DEFAULT_DB) -> None:
    """Cancel what is queued of batches or jobs, and stop what is running; its turns are kept."""
    from . import steering

    steering.cancel(db, targets, say)


def retry(
    targets: Targets,
    db: Db = DEFAULT_DB,
    statuses: Annotated[
        str | None,
        typer.Option("--status", help="Only jobs that ended so: failed,incomplete,cancelled."),
    ] = None,
) -> None:
    """Queue failed, incomplete or cancelled jobs again; their complete turns are kept."""
    from . import steering

    steering.retry(db, targets, statuses, say)
