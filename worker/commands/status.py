"""`mh-batch status` and `mh-batch timings`: how far the batches are, and how fast."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError

from .options import DEFAULT_DB, BatchRef, Db
from .shared import reading_from, say


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
