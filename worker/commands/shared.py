"""What several commands do."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.worker.text.escape import escape_controls

from .options import DEFAULT_DB

if TYPE_CHECKING:
    from sqlite_utils import Database

    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.record import Order as OrderName
    from mh_batch.jobs.settings import Settings
    from mh_batch.worker.draining.run import Outcome
    from mh_batch.worker.options import ArtifactPolicy, DrainOptions
    from mh_batch.worker.output.export import Export
    from mh_batch.worker.submission.submission import Rules


def settings_of(profile: str | None, assignments: list[str] | None) -> "Settings":
    """Return the effective settings of what is submitted."""
    from mh_batch.worker.config import effective_settings, read_config

    return effective_settings(read_config(Path.cwd()), profile, assignments or [])


def model_name(name: str | None) -> str | None:
    """Return a model's name as the queue has it, a folder by its whole path; `None` for none."""
    from mh_batch.worker.config import named_model

    return named_model(name)


def checked_order(order: str) -> "OrderName":
    """Return what `--order` says; raises `InputError` if there is no such order."""
    known: dict[str, OrderName] = {"submission": "submission", "prefix": "prefix"}
    if order not in known:
        raise InputError(f"--order {order}: there are {', '.join(known)}")
    return known[order]


def submit_file(db: Path, batch: "NewBatch", rules: "Rules", *, go_on: bool = False) -> int:
    """Submit a file and say so; `go_on` takes the batch that it is already, if it is one."""
    from mh_batch.jobs.errors import AlreadySubmitted
    from mh_batch.store.connection import open_store
    from mh_batch.worker.submission.progress_bar import submit_progress
    from mh_batch.worker.submission.submission import (
        batch_to_go_on_with,
        open_source,
        submit_stream,
    )
    from mh_batch.worker.text.format import format_count, printable

    with open_source(batch.source) as stream:
        store = open_store(db)
        try:
            with submit_progress(stream, batch.source) as progress:
                landed = submit_stream(store, stream, batch, rules, progress)
        except AlreadySubmitted as known:
            if not go_on:
                raise
            batch_id = batch_to_go_on_with(store, known, batch)
            say(f"{batch.source} is batch {batch_id} already: going on with it")
            return batch_id
        finally:
            store.close()
    jobs = format_count(landed.jobs, "job")
    say(f"batch {landed.batch_id} ({printable(batch.name)}): {jobs} queued")
    if landed.rejects is not None:
        say(f"{format_count(landed.rejected, 'bad line')} left out: {landed.rejects}")
    if landed.warning is not None:
        say(landed.warning)
    return landed.batch_id


def _checked_artifacts(keep: str) -> "ArtifactPolicy":
    known: dict[str, ArtifactPolicy] = {"all": "all", "retries": "retries", "off": "off"}
    if keep not in known:
        raise InputError(f"--artifacts {keep}: there are {', '.join(known)}")
    return known[keep]


def task_of(db: Path, model: str | None, artifacts: str | None) -> "DrainOptions":
    """Return what a worker is to do; `None` takes what the configuration says."""
    from msgspec.structs import replace

    from mh_batch.worker.config import read_config
    from mh_batch.worker.options import DrainOptions, WorkerSettings, shared_fields

    config = read_config(Path.cwd())
    logs = db.resolve().parent / "logs"
    task = DrainOptions(
        db, model_name(model or config.model), logs, **shared_fields(config, WorkerSettings)
    )
    return replace(task, artifacts=_checked_artifacts(artifacts)) if artifacts else task


def drain(task: "DrainOptions", *, allow_sleep: bool, results: bool) -> "Outcome":
    """Drain the queue and say how it went."""
    import anyio

    from mh_batch.worker.draining.run import work as drain_queue
    from mh_batch.worker.progress.display import open_display
    from mh_batch.worker.progress.summary import summarize_run, wrap_up
    from mh_batch.worker.runtime.keep_awake import keep_awake

    if not allow_sleep and (note := keep_awake()):
        say(note)
    outcome = anyio.run(drain_queue, task, open_display(task.db))
    with reading_from(task.db) as reader:
        summary = summarize_run(outcome, reader, _options(task.db))
    for line in wrap_up(summary, results=results):
        say(line)
    return outcome


def _options(db: Path) -> str:
    """Return what a command needs to find this database from here, with a space in front."""
    import shlex

    found = os.environ.get("MH_BATCH_DB") or str(DEFAULT_DB)
    return "" if str(db) == found else f" --db {shlex.quote(str(db))}"


def write_out(db: Path, batch: str | None, export: "Export") -> None:
    """Write a batch's results and say where they are; `None` is the latest batch."""
    from mh_batch.worker.output.export import write_results

    with reading_from(db) as reader:
        for told in write_results(reader, batch, export):
            say(told)


def reading_from(db: Path) -> "AbstractContextManager[Database]":
    """Open the database to read, to be closed on the way out; Ctrl-C ends it at once."""
    from mh_batch.worker.output.interruption import reading_from

    return reading_from(db)


def say(text: str) -> None:
    """Print a line beside the output; what it quotes cannot steer the terminal."""
    typer.echo(escape_controls(text), err=True)


def leave(code: int) -> None:
    """End the command with this exit code, unless it is 0."""
    if code:
        raise typer.Exit(code)
