"""What several commands do."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.worker.text.escape import escape_controls

if TYPE_CHECKING:
    from sqlite_utils import Database

    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.record import Order as OrderName
    from mh_batch.jobs.settings import Settings
    from mh_batch.worker.config import Config
    from mh_batch.worker.options import ArtifactPolicy, DrainOptions
    from mh_batch.worker.output.export import Export
    from mh_batch.worker.submission.submission import Rules
    from mh_batch.worker.submission.tables.options import RowOptions

Choice = TypeVar("Choice", bound=str)

ORDERS: tuple["OrderName", ...] = ("submission", "prefix")
ARTIFACTS: tuple["ArtifactPolicy", ...] = ("all", "retries", "off")


def read_config() -> "Config":
    """Return the configuration of the working folder."""
    from mh_batch.worker.config import read_config

    return read_config(Path.cwd())


def settings_of(
    config: "Config",
    profile: str | None,
    assignments: list[str] | None,
    schema: Path | None,
    **shortcuts: float | None,
) -> "tuple[Settings, tuple[str, ...]]":
    """Return the effective settings of a submission, and the names of those that somebody set.

    `schema` is the file of `--schema`, `shortcuts` are options of their own.
    """
    from mh_batch.worker.config import effective_settings, given_names
    from mh_batch.worker.submission.schema_file import read_schema

    form = None if schema is None else read_schema(schema)
    short = [f"{name}={value}" for name, value in shortcuts.items() if value is not None]
    layers = (config, profile, [*(assignments or []), *short], form)
    return effective_settings(*layers), given_names(*layers)


def model_name(name: str | None, adapter: str | None = None) -> str | None:
    """Return a model's name as the queue stores it, a folder by its full path; `None` for none."""
    from mh_batch.worker.model_choice import full_name

    return full_name(name, adapter)


def batch_model(config: "Config", model: str | None, adapter: str | None) -> str | None:
    """Return the model of a batch that is submitted, `None` to leave it to the worker.

    `model` and `adapter` are those of the command. An adapter takes the model that is the default
    here, for the worker's may be another one.
    """
    from mh_batch.worker.model_choice import default_model

    if adapter is None:
        return model_name(model)
    if not Path(adapter).expanduser().is_dir():
        say(f"--adapter {adapter}: no such folder; its jobs stay queued until there is one")
    return default_model(config, model or os.environ.get("MH_BATCH_MODEL"), adapter)


def checked_order(order: str) -> "OrderName":
    """Return the value of `--order`; raises `InputError` for any other."""
    return _one_of("--order", order, ORDERS)


def _one_of(option: str, value: str, choices: Sequence[Choice]) -> Choice:
    for choice in choices:
        if choice == value:
            return choice
    raise InputError(f"{option} {value}: must be one of {', '.join(choices)}")


def submit_file(
    db: Path,
    batch: "NewBatch",
    rules: "Rules",
    rows: "RowOptions",
    *,
    continue_known: bool = False,
) -> int:
    """Submit a file, print what was queued, and return the batch's id.

    `continue_known` returns the batch that the file already is, if there is one.
    """
    from mh_batch.jobs.errors import AlreadySubmitted
    from mh_batch.store.connection import open_store
    from mh_batch.worker.submission.dry_run_report import ignored_note
    from mh_batch.worker.submission.progress_bar import submit_progress
    from mh_batch.worker.submission.submission import submit_stream
    from mh_batch.worker.submission.tables.source import open_source
    from mh_batch.worker.text.format import format_count, printable

    with open_source(batch.source, rows) as stream:
        store = open_store(db)
        try:
            with submit_progress(stream, batch.source) as progress:
                submitted = submit_stream(store, stream, batch, rules, progress)
        except AlreadySubmitted as known:
            if not continue_known or known.same_batch is None:
                raise
            say(f"{batch.source} is already batch {known.same_batch}: going on with it")
            return known.same_batch
        finally:
            store.close()
    jobs = format_count(submitted.jobs, "job")
    say(f"batch {submitted.batch_id} ({printable(batch.name)}): {jobs} queued")
    if submitted.rejects is not None:
        say(f"{format_count(submitted.rejected, 'bad line')} left out: {submitted.rejects}")
    if submitted.ignored:
        say(ignored_note(submitted.ignored))
    if submitted.repeated_ids is not None:
        first, second = submitted.repeated_ids
        say(f"lines {first} and {second} have the same id: each custom_id is line-<number>")
    if submitted.warning is not None:
        say(submitted.warning)
    return submitted.batch_id


def drain_options(
    config: "Config", db: Path, model: str | None, given: Mapping[str, Any]
) -> "DrainOptions":
    """Return the options of a drain; `given` are those of the command as they were typed.

    `None`, also in `given`, takes the value of the configuration.
    """
    from msgspec.structs import replace

    from mh_batch.worker.model_choice import default_model
    from mh_batch.worker.options import DrainOptions, WorkerSettings, shared_fields
    from mh_batch.worker.runtime.stop import parse_clock

    settings = shared_fields(config, WorkerSettings)
    settings |= {name: value for name, value in given.items() if value is not None}
    named = default_model(config, model, settings.pop("adapter", None))
    if (artifacts := given.get("artifacts")) is not None:
        settings["artifacts"] = _one_of("--artifacts", artifacts, ARTIFACTS)
    if (until := given.get("until")) is not None:
        settings["until"] = parse_clock(until)
    if (nbytes := settings.pop("prefix_cache_bytes", None)) is not None:
        settings["engine"] = replace(config.engine, prefix_cache_bytes=nbytes)
    return DrainOptions(db, named, db.resolve().parent / "logs", **settings)


def write_out(db: Path, batches: Sequence[str], export: "Export") -> None:
    """Write the results of batches and print where they are; of the latest if none is named."""
    from mh_batch.worker.output.export import write_results

    with reading_from(db) as reader:
        for message in write_results(reader, batches, export):
            say(message)


def reading_from(db: Path) -> "AbstractContextManager[Database]":
    """Open the database for a block that only reads; Ctrl-C ends it at once."""
    from mh_batch.worker.output.interruption import reading_from

    return reading_from(db)


def say(text: str) -> None:
    """Print a line to standard error, with control characters escaped."""
    typer.echo(escape_controls(text), err=True)


def leave(code: int) -> None:
    """End the command with this exit code, unless it is 0."""
    if code:
        raise typer.Exit(code)
