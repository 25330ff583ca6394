"""The command line. Only typer is imported up here: `--help` must be quick."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mh_batch.jobs.errors import InputError, MhBatchError
from mh_batch.jobs.settings import PROFILES

from .visible import visible

if TYPE_CHECKING:
    from sqlite_utils import Database

    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.record import Order as OrderName
    from mh_batch.jobs.settings import Settings

    from .artifacts import Keep
    from .export import Export
    from .submission import Rules
    from .work import Outcome, Work

app = typer.Typer(
    name="mh-batch",
    help="Overnight batch processor for local language models: JSONL in, SQLite out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"mh-batch {version('mh-batch')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Overnight batch processor for local language models: JSONL in, SQLite out."""


@app.command()
def submit(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="JSON lines; - is stdin.")],
    db: Db = DEFAULT_DB,
    name: Name = None,
    model: BatchModel = None,
    override_model: OverrideModel = False,
    priority: Priority = 0,
    profile: Profile = None,
    assignments: Set = None,
    order: Order = "submission",
    check: Annotated[
        bool, typer.Option("--check", help="Queue nothing; tell what would not fit, and how long.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave bad lines out, into FILE.rejected.jsonl."),
    ] = False,
    again: Again = False,
) -> None:
    """Queue the conversations of each FILE: all lines of it, or none."""
    from mh_batch.jobs.record import NewBatch

    from .submission import Rules, batch_name

    rules = Rules(skip_bad, again)
    settings = _settings(profile, assignments)
    all_fit = True
    for source in files:
        batch = NewBatch(
            name=name or batch_name(source),
            source=source,
            settings=settings,
            model=_model_name(model),
            priority=priority,
            order=_checked_order(order),
            override_model=override_model,
        )
        if check:
            all_fit = _check(db, batch, rules) and all_fit
        else:
            _submit(db, batch, rules)
    _exit(0 if all_fit else 1)


@app.command()
def work(
    db: Db = DEFAULT_DB,
    model: Model = None,
    recycle_bytes: Annotated[
        int | None,
        typer.Option(
            "--recycle-bytes",
            min=1,
            help="Start a new model process between jobs once it holds more memory than this.",
        ),
    ] = None,
    prefix_cache_bytes: Annotated[
        int | None,
        typer.Option(
            "--prefix-cache-bytes",
            min=0,
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
            help="Fail a job after so many deaths of the model on one attempt [default: 2].",
        ),
    ] = None,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", min=1, help="End after so many jobs.")
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

    from .stop import parse_clock

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
    task = _task(db, model, artifacts)
    task = replace(task, **{name: value for name, value in given.items() if value is not None})
    if prefix_cache_bytes is not None:
        engine = replace(task.engine, prefix_cache_bytes=prefix_cache_bytes)
        task = replace(task, engine=engine)
    _exit(_work(task, allow_sleep=allow_sleep, results=True).exit_code)


@app.command()
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is stdin.")],
    output: Output,
    db: Db = DEFAULT_DB,
    model: Model = None,
    override_model: OverrideModel = False,
    profile: Profile = None,
    assignments: Set = None,
    form: Format = "openai",
    order: Order = "submission",
    artifacts: Artifacts = None,
    allow_sleep: AllowSleep = False,
    again: Again = False,
) -> None:
    """Submit FILE, work until the queue is empty, write the results.

    A second time it goes on with the batch that FILE is already.
    """
    from mh_batch.jobs.record import NewBatch

    from .export import Export, check_export
    from .submission import Rules, batch_name

    export = Export(output, form)
    check_export(export, db, *([] if file == "-" else [file]))
    settings, task = _settings(profile, assignments), _task(db, model, artifacts)
    batch = NewBatch(
        batch_name(file),
        file,
        settings,
        # what the configuration names is for this batch only where it takes the place of others
        task.model if override_model else _model_name(model),
        order=_checked_order(order),
        override_model=override_model,
    )
    batch_id = _submit(db, batch, Rules(again=again), go_on=True)
    outcome = _work(task, allow_sleep=allow_sleep, results=False)
    if outcome.stopped:
        _say(f"then `mh-batch results {batch_id} -o {output}` writes the results")
        _exit(1)
    _results(db, str(batch_id), export)
    # what failed in an earlier run of the same file is in the results too
    _exit(outcome.exit_code or _unsuccessful(db, batch_id))


@app.command()
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
        from .watching import watch_batch

        watch_batch(db, batch)
        return
    from . import reading

    with _reader(db) as reader:
        reading.print_status(reader, batch, json)


@app.command()
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
) -> None:
    """Write a batch's finished jobs in input order; the latest batch if none is named.

    The formats openai and csv give every finished job, the others only those that are done.
    """
    from mh_batch.jobs.selection import Selection
    from mh_batch.jobs.split import Split

    from .export import Export, check_export

    if seed is not None and split is None:
        raise InputError("--seed: is for --split only")
    selection = Selection.parse(statuses, finish_reasons, where or [])
    parts = Split.parse(split, seed or 0) if split is not None else None
    export = Export(output, form, selection, errors, parts)
    check_export(export, db)
    _results(db, batch, export)


@app.command()
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
    from .show import doubt, print_job

    with _reader(db) as reader:
        if (told := doubt(reader, job)) is not None:
            _say(told)
        print_job(reader, job, attempts)


@app.command()
def cancel(targets: Targets, db: Db = DEFAULT_DB) -> None:
    """Cancel what is queued of batches or jobs, and stop what is running; its turns are kept."""
    from . import steering

    steering.cancel(db, targets, _say)


@app.command()
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

    steering.retry(db, targets, statuses, _say)


@app.command()
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
) -> None:
    """Run one read-only SQL query on the database: your own, or one of the cookbook."""
    from . import reading

    if csv and json:
        raise InputError("--csv and --json: choose one")
    if [sql is not None, recipe is not None, list_recipes].count(True) != 1:
        raise InputError("query: give one of SQL, --recipe NAME, --list")
    form = "csv" if csv else "json" if json else "table"
    if list_recipes:
        reading.print_recipes(form)
    else:
        chosen = sql if sql is not None else reading.recipe_sql(recipe or "")
        reading.print_query(db, chosen, form)


@app.command()
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
    from .timings import timings

    with _reader(db) as reader:
        timings(reader, batch, plot, json)
    if plot is not None:
        _say(f"the picture is in {plot}")


@app.command()
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
    from .report import write_report

    with _reader(db) as reader:
        write_report(reader, batch, output)
    if output != "-":
        _say(f"the page is in {output}")


@app.command()
def explore(
    db: Db = DEFAULT_DB,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")
    ] = 8001,
) -> None:
    """Browse the database with datasette, read-only, the cookbook at hand; Ctrl-C ends it."""
    from .explore import explore

    explore(db, port)


@app.command()
def reparse(batch: BatchRef = None, db: Db = DEFAULT_DB) -> None:
    """Read the stored tokens of a batch again with today's parser; no model is needed."""
    from mh_batch.store.connection import writing
    from mh_batch.store.reports import find_batch, latest_batch

    from .reparse import reparse as read_again
    from .reparse import told

    with writing(db) as store:
        chosen = find_batch(store, batch) if batch else latest_batch(store)
        name = visible(chosen.name)
        typer.echo(f"batch {chosen.id} ({name}): {told(read_again(store, chosen.id))}")


@app.command()
def doctor(
    db: Db = DEFAULT_DB,
    model: Model = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check that all a night needs is here and sound; say what to do."""
    from .doctor.examine import as_json, examine, exit_code, print_findings
    from .doctor.finding import Site

    task = _task(db, model, None)
    findings = list(examine(Site(task.db, task.logs, task.model)))
    if json:
        typer.echo(as_json(findings))
    else:
        print_findings(findings)
    _exit(exit_code(findings))


@app.command()
def bench(
    model: Annotated[
        str, typer.Option("--model", help="demo, random, a local folder, or a hub name.")
    ] = "demo",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only these scenarios: decode,prefix."),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each figure.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: seconds a scenario.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also the top 20 of a profile of the engine.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it as PNG (needs mh-batch[plot]).")
    ] = None,
    note: Annotated[
        Path | None, typer.Option("--note", help="Write the ratios here as Markdown.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="A former --json: print what changed.")
    ] = None,
) -> None:
    """Measure the engine and the worker beside plain references."""
    from rich.console import Console

    from .bench.run import Outputs, Request
    from .bench.run import run as run_bench

    outputs = Outputs(json=json, plot=plot, note=note, compare=compare)
    request = Request(
        _model_name(model) or model, rounds, quick, tuple(only or ()), profile, outputs
    )
    run_bench(request, _say, Console())


def _settings(profile: str | None, assignments: list[str] | None) -> "Settings":
    """Return the effective settings of what is submitted."""
    from .config import effective_settings, read_config

    return effective_settings(read_config(Path.cwd()), profile, assignments or [])


def _model_name(name: str | None) -> str | None:
    from .config import named_model

    return named_model(name)


def _checked_order(order: str) -> "OrderName":
    known: dict[str, OrderName] = {"submission": "submission", "prefix": "prefix"}
    if order not in known:
        raise InputError(f"--order {order}: there are {', '.join(known)}")
    return known[order]


def _submit(db: Path, batch: "NewBatch", rules: "Rules", *, go_on: bool = False) -> int:
    """Submit a file and say so; `go_on` takes the batch that it is already, if it is one."""
    from mh_batch.jobs.errors import AlreadySubmitted
    from mh_batch.store.connection import open_store

    from .submission import batch_to_go_on_with, open_source, submit_stream
    from .submit_progress import submit_progress
    from .wording import count, printable

    with open_source(batch.source) as stream:
        store = open_store(db)
        try:
            with submit_progress(stream, batch.source) as progress:
                landed = submit_stream(store, stream, batch, rules, progress)
        except AlreadySubmitted as known:
            if not go_on:
                raise
            batch_id = batch_to_go_on_with(store, known, batch)
            _say(f"{batch.source} is batch {batch_id} already: going on with it")
            return batch_id
        finally:
            store.close()
    _say(f"batch {landed.batch_id} ({printable(batch.name)}): {count(landed.jobs, 'job')} queued")
    if landed.rejects is not None:
        _say(f"{count(landed.rejected, 'bad line')} left out: {landed.rejects}")
    if landed.warning is not None:
        _say(landed.warning)
    return landed.batch_id


def _unsuccessful(db: Path, batch_id: int) -> int:
    """Return 1 if a job of the batch did not go well, else 0."""
    from mh_batch.jobs.status import NOT_WELL
    from mh_batch.store.reports import batch_reports

    with _reader(db) as reader:
        (report,) = batch_reports(reader, batch_id)
    return int(report.count(NOT_WELL) > 0)


def _check(db: Path, batch: "NewBatch", rules: "Rules") -> bool:
    """Print what the lines of a batch would be to the model; return whether all can be done."""
    from msgspec.structs import replace

    from .check import report_on
    from .config import read_config

    default = os.environ.get("MH_BATCH_MODEL") or read_config(Path.cwd()).model
    report = report_on(replace(batch, model=batch.model or _model_name(default)), db, rules)
    for line in report.lines():
        typer.echo(visible(line))
    return report.all_fit


def _checked_artifacts(keep: str) -> "Keep":
    known: dict[str, Keep] = {"all": "all", "retries": "retries", "off": "off"}
    if keep not in known:
        raise InputError(f"--artifacts {keep}: there are {', '.join(known)}")
    return known[keep]


def _task(db: Path, model: str | None, artifacts: str | None) -> "Work":
    """Return what a worker is to do; `None` takes what the configuration says."""
    from .config import read_config
    from .work import Work

    config = read_config(Path.cwd())
    return Work(
        db=db,
        model=_model_name(model or config.model),
        logs=db.resolve().parent / "logs",
        engine=config.engine,
        recycle_bytes=config.recycle_bytes,
        artifacts=_checked_artifacts(artifacts or config.artifacts),
        hang_seconds=config.hang_seconds,
        max_crashes=config.max_crashes,
    )


def _work(task: "Work", *, allow_sleep: bool, results: bool) -> "Outcome":
    """Drain the queue and say how it went."""
    import anyio

    from .awake import keep_awake
    from .display import open_display
    from .work import work as drain_queue
    from .wrapup import night_of, wrap_up

    if not allow_sleep and (note := keep_awake()):
        _say(note)
    outcome = anyio.run(drain_queue, task, open_display(task.db))
    with _reader(task.db) as reader:
        night = night_of(outcome, reader, _options(task.db))
    for line in wrap_up(night, results=results):
        _say(line)
    return outcome


def _options(db: Path) -> str:
    """Return what a command needs to find this database from here, with a space in front."""
    import shlex

    found = os.environ.get("MH_BATCH_DB") or str(DEFAULT_DB)
    return "" if str(db) == found else f" --db {shlex.quote(str(db))}"


def _results(db: Path, batch: str | None, export: "Export") -> None:
    from .export import write_results

    with _reader(db) as reader:
        for told in write_results(reader, batch, export):
            _say(told)


@contextmanager
def _reader(db: Path) -> "Iterator[Database]":
    from mh_batch.store.connection import open_reader

    reader = open_reader(db)
    try:
        yield reader
    finally:
        reader.close()


def _say(text: str) -> None:
    # what a line or a model says in it is not to steer the terminal
    typer.echo(visible(text), err=True)


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Run the command line; an error of ours is one clear line and its exit code."""
    # whatever the umask, no file of ours is for everybody to write
    os.umask(os.umask(0o077) | 0o002)
    for stream in (sys.stdout, sys.stderr):
        # an answer may hold what the terminal's encoding does not
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MhBatchError as error:
        _say(f"mh-batch: {error}")
        sys.exit(error.exit_code)
    except sqlite3.Error as error:
        # whatever a damaged file says where nobody expected it
        from mh_batch.store.faults import meaning

        told = meaning(error, "the database") or f"the database: {error}"
        _say(f"mh-batch: {told}; `mh-batch doctor` says more")
        sys.exit(3)
    except OSError as error:
        # a full disk behind standard output, no rights somewhere: not a fault of the program
        name = f"{error.filename}: " if error.filename else ""
        _say(f"mh-batch: {name}{error.strerror or error}")
        sys.exit(3)


if __name__ == "__main__":
    main()
