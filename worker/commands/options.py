"""Options and arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.settings import MOST_LINE_MIB, PROFILES

Db = Annotated[
    Path, typer.Option("--db", envvar="MH_BATCH_DB", help="The database file.", show_default=True)
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="MH_BATCH_MODEL",
        help="For jobs that name none: demo, a local folder, or a hub name.",
    ),
]
BatchModel = Annotated[
    str | None,
    typer.Option("--model", help="For lines that name none; else whatever `work` brings."),
]
OverrideModel = Annotated[
    bool,
    typer.Option(
        "--override-model", help="Use --model for every line, also those that name their own."
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="The batch's name; else the file's.")]
Profile = Annotated[
    str | None, typer.Option("--profile", help=f"Named settings: {', '.join(PROFILES)}.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as max_tokens=512."),
]
Priority = Annotated[
    int, typer.Option("--priority", min=-1_000_000, max=1_000_000, help="Higher goes first.")
]
Order = Annotated[
    str,
    typer.Option(
        "--order", help="submission, or prefix: claim jobs together that begin alike (faster)."
    ),
]
Again = Annotated[
    bool, typer.Option("--again", help="Submit a file that is a batch already as another one.")
]
AllowSleep = Annotated[
    bool, typer.Option("--allow-sleep", help="Do not keep a Mac awake meanwhile.")
]
Format = Annotated[
    str, typer.Option("--format", help="openai, messages, completion, sharegpt or csv.")
]
RescuedAnswers = Annotated[
    str | None,
    typer.Option(
        "--rescued",
        help="Conversations with answers forced from thoughts that had not ended: keep, drop or "
        "only [default: keep; drop where the format is to train on].",
    ),
]
MaxLine = Annotated[
    int | None,
    typer.Option(
        "--max-line-mib",
        min=1,
        max=MOST_LINE_MIB,
        help="Refuse lines longer than so many MiB [default: 32].",
    ),
]
RawCsv = Annotated[
    bool,
    typer.Option("--raw-csv", help="Leave CSV cells as they are that a spreadsheet would run."),
]
Output = Annotated[
    str, typer.Option("-o", "--output", help="Where the lines go; - is standard output.")
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        help="Files of each attempt under logs/: all, retries (of steps tried again), or off.",
    ),
]
BatchRef = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="A number or a name.")]
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="BATCH|JOB...",
        help="A batch's number or name, a job's number or custom_id, or BATCH/JOB.",
    ),
]

DEFAULT_DB = Path("mh-batch.db")
