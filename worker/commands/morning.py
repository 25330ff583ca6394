"""The morning after: results, conversations, questions and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.worker.text.escape import escape_controls

from .options import DEFAULT_DB, BatchRef, Db, Format, Output, RawCsv, RescuedAnswers
from .shared import reading_from, say, write_out

MOST_SECONDS = 31_536_000  # a year: timers of the system take no more than some


def results(
    batch: BatchRef = None,
    output: Output = "-",
    db: Db = DEFAULT_DB,
    form: Format = "openai",
    statuses: Annotated[
        str | None,
        typer.Option("--status", help="Only jobs that ended so: done,incomplete,failed,cancelled."),
    ] = None,
    finish_reasons: Annotated[
        str | None,
        typer.Option("--finish-reason", help="Only answers that ended so: stop,length,tool_calls."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only jobs with this in the metadata."),
    ] = None,
    rescued: RescuedAnswers = None,
    errors: Annotated[
        str | None, typer.Option("--errors", help="Jobs without such an answer go to this file.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME=SHARE,...",
            help="Into files of the folder -o, such as train=0.9,valid=0.05,test=0.05.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another drawing of --split.")] = None,
    raw_csv: RawCsv = False,
) -> None:
    """Write a batch's finished jobs in input order; the latest batch if none is named.

    The formats openai and csv give every finished job, the others only those that are done, without
    rescued answers.
    """
    from mh_batch.jobs.results.selection import Selection
    from mh_batch.jobs.results.split import Split
    from mh_batch.worker.output.export import Export, check_export

    if seed is not None and split is None:
        raise InputError("--seed: is for --split only")
    selection = Selection.parse(statuses, finish_reasons, where or [], rescued)
    parts = Split.parse(split, seed or 0) if split is not None else None
    export = Export(output, form, selection, errors, parts, raw_csv)
    check_export(export, db)
    write_out(db, batch, export)


def show(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="A job's number or custom_id, or BATCH/JOB.")
    ],
    db: Db = DEFAULT_DB,
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Every attempt, with text and times.")
    ] = False,
) -> None:
    """Print a conversation as a person reads it, channels told apart."""
    from mh_batch.worker.output.show import doubt, print_job

    with reading_from(db) as reader:
        if (told := doubt(reader, job)) is not None:
            say(told)
        print_job(reader, job, attempts)


def query(
    sql: Annotated[str | None, typer.Argument(metavar="[SQL]")] = None,
    db: Db = DEFAULT_DB,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="A question of the cookbook.")
    ] = None,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Name the recipes there are.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
    raw_csv: RawCsv = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.001,
            max=MOST_SECONDS,
            help="End a query that takes longer.",
        ),
    ] = None,
) -> None:
    """Run one read-only SQL query on the database: your own, or one of the cookbook."""
    from mh_batch.worker.output import tables

    if csv and json:
        raise InputError("--csv and --json: choose one")
    if raw_csv and not csv:
        raise InputError("--raw-csv: is for --csv only")
    if [sql is not None, recipe is not None, list_recipes].count(True) != 1:
        raise InputError("query: give one of SQL, --recipe NAME, --list")
    form = "raw_csv" if raw_csv else "csv" if csv else "json" if json else "table"
    if list_recipes:
        tables.print_recipes(form)
    else:
        chosen = sql if sql is not None else tables.recipe_sql(recipe or "")
        tables.print_query(db, chosen, form, timeout)


def timings(
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it as PNG (needs mh-batch[plot]).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show how fast it went: by context length and by hour, gaps, retries, memory.

    Of all batches if none is named.
    """
    from mh_batch.worker.output.timings import timings

    with reading_from(db) as reader:
        timings(reader, batch, plot, json)
    if plot is not None:
        say(f"the picture is in {plot}")


def report(
    output: Annotated[
        str, typer.Option("-o", "--output", help="Where the page goes; - is standard output.")
    ],
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a batch's night as one HTML page: outcome, pictures, samples, what went wrong.

    Of the latest batch if none is named.
    """
    from mh_batch.worker.output.report import write_report

    with reading_from(db) as reader:
        write_report(reader, batch, output)
    if output != "-":
        say(f"the page is in {output}")


def explore(
    db: Db = DEFAULT_DB,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")
    ] = 8001,
) -> None:
    """Browse the database with datasette, read-only, the cookbook at hand; Ctrl-C ends it."""
    from mh_batch.worker.output.explore import explore

    explore(db, port)


def reparse(batch: BatchRef = None, db: Db = DEFAULT_DB) -> None:
    """Read the stored tokens of a batch again with today's parser; no model is needed."""
    from mh_batch.store.connection import writing
    from mh_batch.store.lookup import find_batch, latest_batch

    from .rereading import reparse as read_again
    from .rereading import told

    with writing(db) as store:
        chosen = find_batch(store, batch) if batch else latest_batch(store)
        name = escape_controls(chosen.name)
        typer.echo(f"batch {chosen.id} ({name}): {told(read_again(store, chosen.id))}")
