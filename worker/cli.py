"""The command line. Only typer is imported up here: `--help` must be quick."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mh_batch.jobs.errors import InputError, MhBatchError
from mh_batch.jobs.settings import PROFILES

if TYPE_CHECKING:
    from sqlite_utils import Database

    from .drain import Work
    from .work import Outcome

app = typer.Typer(
    name="mh-batch",
    help="Overnight batch processor for local language models: JSONL in, SQLite out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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
Name = Annotated[str | None, typer.Option("--name", help="The batch's name; else the file's.")]
Profile = Annotated[
    str | None, typer.Option("--profile", help=f"Named settings: {', '.join(PROFILES)}.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as max_tokens=512."),
]
Priority = Annotated[int, typer.Option("--priority", help="Higher goes first.")]
Format = Annotated[str, typer.Option("--format", help="openai or messages.")]
Output = Annotated[
    str, typer.Option("-o", "--output", help="Where the lines go; - is standard output.")
]
BatchRef = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="A number or a name.")]

DEFAULT_DB = Path("mh-batch.db")


@app.command()
def submit(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="JSON lines; - is stdin.")],
    db: Db = DEFAULT_DB,
    name: Name = None,
    model: Model = None,
    priority: Priority = 0,
    profile: Profile = None,
    assignments: Set = None,
) -> None:
    """Put the conversations of each FILE into the queue, all lines of it or none."""
    from mh_batch.jobs.record import NewBatch

    settings, default_model = _settings(profile, assignments)
    for source in files:
        batch = NewBatch(
            name=name or ("stdin" if source == "-" else Path(source).stem),
            source=source,
            settings=settings,
            model=_model_name(model or default_model),
            priority=priority,
        )
        _submit(db, batch)


@app.command()
def work(db: Db = DEFAULT_DB, model: Model = None) -> None:
    """Run the queued conversations, one after the other, until none is left."""
    from mh_batch.store.connection import require_store

    _, default_model = _settings(None, None)
    # a mistyped --db must not make a new, empty database
    require_store(db)
    _exit(_work(_task(db, model or default_model)).exit_code)


@app.command()
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is stdin.")],
    output: Output,
    db: Db = DEFAULT_DB,
    model: Model = None,
    profile: Profile = None,
    assignments: Set = None,
    form: Format = "openai",
) -> None:
    """Submit FILE, work until the queue is empty, write the results: all in one."""
    from mh_batch.jobs.record import NewBatch

    _check_format(form)
    settings, default_model = _settings(profile, assignments)
    name = "stdin" if file == "-" else Path(file).stem
    chosen = _model_name(model or default_model)
    batch_id = _submit(db, NewBatch(name, file, settings, chosen))
    outcome = _work(_task(db, chosen))
    if outcome.stopped:
        _say(f"then `mh-batch results {batch_id} -o {output}` writes the results")
        _exit(1)
    _results(db, str(batch_id), output, form, None)
    _exit(outcome.exit_code)


@app.command()
def status(
    batch: BatchRef = None,
    db: Db = DEFAULT_DB,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show each batch: how many jobs wait, are done, failed; tokens and speed."""
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
) -> None:
    """Write a batch's finished jobs as JSON lines, in input order; the latest batch if none named.

    The openai format gives every finished job, the messages format only those that are done.
    """
    _check_format(form)
    _results(db, batch, output, form, statuses)


@app.command()
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's number or custom_id.")],
    db: Db = DEFAULT_DB,
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Every attempt, with times.")
    ] = False,
) -> None:
    """Print a conversation as a person reads it, channels told apart."""
    from . import reading

    with _reader(db) as reader:
        reading.print_job(reader, job, attempts)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL")],
    db: Db = DEFAULT_DB,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
) -> None:
    """Run one read-only SQL query on the database."""
    from . import reading

    if csv and json:
        raise InputError("--csv and --json: choose one")
    reading.print_query(db, sql, "csv" if csv else "json" if json else "table")


def _settings(profile: str | None, assignments: list[str] | None) -> tuple[Any, str | None]:
    """Return the effective settings and the configuration's model."""
    from .config import effective_settings, read_config

    config = read_config(Path.cwd())
    return effective_settings(config, profile, assignments or []), config.model


def _model_name(name: str | None) -> str | None:
    from .config import named_model

    return named_model(name)


def _check_format(form: str) -> None:
    from mh_batch.jobs.formats import FORMATS

    if form not in FORMATS:
        raise InputError(f"--format {form}: there are {', '.join(FORMATS)}")


def _submit(db: Path, batch: Any) -> int:
    from mh_batch.store.connection import open_store

    from .submission import open_source, submit_stream

    with open_source(batch.source) as stream:
        store = open_store(db)
        try:
            landed = submit_stream(store, stream, batch)
        finally:
            store.close()
    _say(f"batch {landed.batch_id} ({batch.name}): {landed.jobs} jobs queued")
    return landed.batch_id


def _task(db: Path, model: str | None) -> "Work":
    from .drain import Work

    return Work(db=db, model=_model_name(model), logs=db.resolve().parent / "logs")


def _work(task: "Work") -> "Outcome":
    """Drain the queue and say how it went."""
    import anyio

    from .display import open_display
    from .work import work as drain_queue

    outcome = anyio.run(drain_queue, task, open_display())
    ended = ", ".join(f"{n} {status}" for status, n in sorted(outcome.tally.ended.items()))
    _say(f"{outcome.reason.replace('_', ' ')}: {ended or 'nothing to do'}")
    if outcome.stopped:
        _say("`mh-batch work` goes on where this stopped")
    return outcome


def _results(db: Path, batch: str | None, output: str, form: str, statuses: str | None) -> None:
    from . import reading

    with _reader(db) as reader:
        written = reading.write_results(reader, batch, output, form, statuses)
    if output != "-":
        _say(f"{written} lines in {output}")


@contextmanager
def _reader(db: Path) -> "Iterator[Database]":
    from mh_batch.store.connection import open_reader

    reader = open_reader(db)
    try:
        yield reader
    finally:
        reader.close()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Run the command line; an error of ours is one clear line and its exit code."""
    _guarded(app)


def _guarded(command: Callable[[], None]) -> None:
    try:
        command()
    except MhBatchError as error:
        _say(f"mh-batch: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader of our output (head, less) has seen enough
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
