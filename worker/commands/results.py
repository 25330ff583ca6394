"""`mh-batch results`, `show` and `report`: the answers of a batch, to keep and to read."""

from typing import Annotated

import typer

from mh_batch.jobs.errors import InputError

from .options import DEFAULT_DB, Db, Format, Output, RawCsv, RescuedAnswers
from .shared import reading_from, say, write_out


def results(
    batches: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BATCH]...", help="Numbers or names; the latest if none is named."),
    ] = None,
    output: Output = "-",
    db: Db = DEFAULT_DB,
    form: Format = None,
    statuses: Annotated[
        str | None,
        typer.Option(
            "--status", help="Only jobs with these statuses: done,incomplete,failed,cancelled."
        ),
    ] = None,
    finish_reasons: Annotated[
        str | None,
        typer.Option(
            "--finish-reason",
            help="Only answers with these finish reasons: stop,length,tool_calls.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only jobs with this in their metadata."),
    ] = None,
    rescued: RescuedAnswers = None,
    errors: Annotated[
        str | None, typer.Option("--errors", help="Write jobs without such an answer to this file.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME=SHARE,...",
            help="Split into files in the folder -o, such as train=0.9,valid=0.05,test=0.05.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The random seed of --split.")] = None,
    raw_csv: RawCsv = False,
    card: Annotated[
        bool,
        typer.Option("--card", help="Into the folder -o, as Parquet by default, with a data card."),
    ] = False,
) -> None:
    """Write the finished jobs of batches in input order.

    Several batches go one after the other into one file. The training formats (messages,
    completion, sharegpt) write only jobs that are done and whose answers are not rescued, the
    others every finished job.
    """
    from mh_batch.jobs.results.formats import format_of
    from mh_batch.jobs.results.selection import Selection
    from mh_batch.jobs.results.split import WHOLE, Split
    from mh_batch.worker.output.export import Export, check_export

    if seed is not None and split is None:
        raise InputError("--seed: is for --split only")
    selection = Selection.parse(statuses, finish_reasons, where or [], rescued)
    parts = Split.parse(split, seed or 0) if split is not None else WHOLE if card else None
    form = form or ("parquet" if card else format_of(output))
    export = Export(output, form, selection, errors, parts, raw_csv, card)
    check_export(export, db)
    write_out(db, batches or (), export)


def show(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="A job's number or custom_id, or BATCH/JOB.")
    ],
    db: Db = DEFAULT_DB,
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Show every attempt, with text and times.")
    ] = False,
) -> None:
    """Print a conversation in readable form, each channel by itself."""
    from mh_batch.worker.output.show import ambiguity_note, print_job

    with reading_from(db) as reader:
        if (note := ambiguity_note(reader, job)) is not None:
            say(note)
        print_job(reader, job, attempts)


def report(
    output: Output,
    batches: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BATCH [BATCH]]", help="A number or a name; two to compare."),
    ] = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a page about a batch, or compare two side by side.

    One HTML file with outcome, charts, samples and failures; of the latest batch if none is named.
    With two batches: the same prompts, both answers beside each other, outcome and speed.
    """
    from mh_batch.worker.output.pages.report import write_report

    with reading_from(db) as reader:
        write_report(reader, batches or [], output)
    if output != "-":
        say(f"the page is in {output}")
