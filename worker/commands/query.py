"""`mh-batch query` and `mh-batch explore`: questions to the database."""

from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError

from .options import DEFAULT_DB, Db, RawCsv

MAX_SECONDS = 31_536_000  # a year: some systems' timers take no more


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


def explore(
    db: Db = DEFAULT_DB,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")
    ] = 8001,
) -> None:
    """Browse the database with datasette, read-only.

    With the cookbook; Ctrl-C ends it.
    """
    from mh_batch.worker.output.explore.start import explore

    explore(db, port)
