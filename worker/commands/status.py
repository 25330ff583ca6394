"""`mh-batch status`, `timings` and `query`: what the database says of the batches."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError

from .options import DEFAULT_DB, BatchRef, Db, RawCsv
from .shared import reading_from, say

MAX_SECONDS = 31_536_000  # a year: some systems' timers take no more


def status(
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until nothing is left, or Ctrl-C.")
    ] = False,
    archived: Annotated[
        bool, typer.Option("--all", help="Also the batches that are archived.")
    ] = False,
) -> None:
    """Show each batch: jobs queued, done and failed; tokens, speed."""
    if watch and json:
        raise InputError("--watch and --json: choose one")
    if watch and archived:
        raise InputError("--watch and --all: nothing is going on in an archived batch")
    if watch:
        from mh_batch.worker.progress.status_watch import watch_batch

        watch_batch(db, batch)
        return
    from mh_batch.worker.output import tables

    with reading_from(db) as reader:
        tables.print_status(reader, batch, json, archived=archived)


def timings(
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it as PNG (needs mh-batch[plot]).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show how fast it went: speeds, gaps, retries, memory.

    By context length and by hour; of all batches if none is named.
    """
    from mh_batch.worker.output.timings import timings

    with reading_from(db) as reader:
        timings(reader, batch, plot, json)
    if plot is not None:
        say(f"the picture is in {plot}")


def query(
    sql: Annotated[str | None, typer.Argument(metavar="[SQL]")] = None,
    db: Db = DEFAULT_DB,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="A query of the cookbook.")
    ] = None,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="List the recipes of the cookbook.")
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
            max=MAX_SECONDS,
            help="Stop a query that takes longer.",
        ),
    ] = None,
) -> None:
    """Run a read-only SQL query: your own, or one of the cookbook."""
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
