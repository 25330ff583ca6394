"""The options and arguments of the commands that several take, or that are long."""

from pathlib import Path
from typing import Annotated

import typer

from mh_batch.jobs.settings import MOST, MOST_BYTES, MOST_LINE_MIB, MOST_PARALLEL, PROFILES

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
    typer.Option("--model", help="For lines that name none; without it, the model of `work`."),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="FOLDER",
        help="An adapter for that model: the folder that mlx_lm.lora wrote.",
    ),
]
OverrideModel = Annotated[
    bool,
    typer.Option(
        "--override-model", help="Use --model for every line, also those that name their own."
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="The batch's name [default: the file's name].")
]
Profile = Annotated[
    str | None, typer.Option("--profile", help=f"Named settings: {', '.join(PROFILES)}.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as max_tokens=512."),
]
Schema = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="A JSON schema that every answer must have."),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt", metavar="TEXT", help='The prompt of each row, such as "Translate: {{text}}".'
    ),
]
Template = Annotated[
    Path | None,
    typer.Option(
        "--template",
        metavar="FILE.jinja",
        help="The same from a file; one named .json.jinja makes the whole line as JSON.",
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="KEY=COLUMN,...", help="Keys of a line and the columns to take them from."
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="A system message for lines without one."),
]
Choices = Annotated[
    int | None,
    typer.Option("--n", min=1, max=128, help="How many answers each line gets [default: 1]."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="The same as --set max_tokens=N.")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="The same as --set temperature=X.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, max=MOST, help="Take only the first N rows.")
]
Sample = Annotated[
    int | None, typer.Option("--sample", min=1, max=MOST, help="Take N rows at random.")
]
SampleSeed = Annotated[
    int | None, typer.Option("--seed", min=0, help="The random seed of --sample [default: 0].")
]
Repeat = Annotated[
    int | None,
    typer.Option("--repeat", min=1, max=10_000, help="Take each row N times, as ID-1 to ID-N."),
]
Priority = Annotated[
    int, typer.Option("--priority", min=-1_000_000, max=1_000_000, help="Higher numbers run first.")
]
Order = Annotated[
    str,
    typer.Option(
        "--order", help="submission, or prefix: run jobs that begin alike together (faster)."
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave bad lines out and write them to FILE.rejected.jsonl."),
]
IgnoreUnknown = Annotated[
    bool,
    typer.Option("--ignore-unknown", help="Leave out and count unknown keys of OpenAI bodies."),
]
Again = Annotated[
    bool, typer.Option("--again", help="Submit a file that is already a batch as a new batch.")
]
AllowSleep = Annotated[bool, typer.Option("--allow-sleep", help="Let a Mac go to sleep meanwhile.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="openai, messages, completion, sharegpt, csv, parquet or json [default: by the "
        "ending of OUT, else openai].",
    ),
]
RescuedAnswers = Annotated[
    str | None,
    typer.Option(
        "--rescued",
        help="Conversations with answers forced from unfinished thoughts: keep, drop or only "
        "[default: keep; drop for the training formats].",
    ),
]
MaxLine = Annotated[
    int | None,
    typer.Option(
        "--max-line-mib",
        min=1,
        max=MOST_LINE_MIB,
        help="Refuse lines longer than this many MiB [default: 32].",
    ),
]
RawCsv = Annotated[
    bool, typer.Option("--raw-csv", help="Do not escape CSV cells that a spreadsheet would run.")
]
Output = Annotated[
    str, typer.Option("-o", "--output", help="The file to write; - is standard output.")
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        help="Files of each attempt under logs/: all, retries (of retried steps only), or off.",
    ),
]
RecycleBytes = Annotated[
    int | None,
    typer.Option(
        "--recycle-bytes",
        min=1,
        max=MOST_BYTES,
        help="Start a new model process between jobs once it holds more memory than this.",
    ),
]
PrefixCacheBytes = Annotated[
    int | None,
    typer.Option(
        "--prefix-cache-bytes",
        min=0,
        max=MOST_BYTES,
        help="Memory for the shared beginnings of prompts; 0 keeps none [default: 1/64 of all].",
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel",
        "-p",
        min=1,
        max=MOST_PARALLEL,
        help="Run this many conversations at once [default: 1].",
    ),
]
Mix = Annotated[
    bool,
    typer.Option(
        "--mix",
        help="Let batches that began with another --parallel go on with this one.",
    ),
]
AllowVariance = Annotated[
    bool,
    typer.Option(
        "--allow-variance",
        help="Use --parallel also where the self-test failed: answers may depend on neighbours.",
    ),
]
HangSeconds = Annotated[
    float | None,
    typer.Option(
        "--hang-seconds",
        min=1,
        help="Kill a model process that is silent for this long [default: 300].",
    ),
]
Accept = Annotated[
    str | None,
    typer.Option(
        "--accept",
        metavar="FILE.py:function",
        help="Call this function with each job and good answer; a reason that it returns is a "
        "retry, None accepts.",
        show_default=False,
    ),
]
MaxCrashes = Annotated[
    int | None,
    typer.Option(
        "--max-crashes",
        min=1,
        max=MOST,
        help="Fail a job after this many crashes of the model on one attempt [default: 2].",
    ),
]
MaxJobs = Annotated[
    int | None, typer.Option("--max-jobs", min=1, max=MOST, help="Stop after this many jobs.")
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="HH:MM", help="Stop when the clock next shows this time."),
]
Notify = Annotated[
    str | None,
    typer.Option(
        "--notify",
        metavar="COMMAND",
        help="A shell command to run at the end, with the summary as JSON on its input.",
        show_default=False,
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

MOST_TRIED = 100
"""How many lines of a file may be answered on trial."""

DEFAULT_DB = Path("mh-batch.db")
