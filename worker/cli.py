"""The command line: every command, and how an error ends it.

Nothing slow is imported at the top: `--help` must be fast.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` looks for modules in the working folder first: a `json.py` there is not ours
    del sys.path[0]

import os
import sqlite3
from io import TextIOWrapper
from typing import Annotated

try:
    import typer

    from mh_batch.jobs.errors import MhBatchError
    from mh_batch.worker.commands.shared import say

    from .commands import (
        bench,
        cancel_retry,
        doctor_selftest,
        reparse,
        results,
        servers,
        status,
        submit,
        work,
    )
except KeyboardInterrupt:
    # Ctrl-C this early ends as typer ends it in a command: without a traceback
    sys.exit(130)

app = typer.Typer(
    name="mh-batch",
    help="Overnight batch processor for local language models: JSONL in, SQLite out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
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


# in the order of `--help`
for command in (
    submit.submit,
    work.work,
    work.run,
    servers.serve,
    status.status,
    results.results,
    results.show,
    cancel_retry.cancel,
    cancel_retry.retry,
    cancel_retry.archive,
    cancel_retry.delete,
    cancel_retry.vacuum,
    status.query,
    status.timings,
    results.report,
    servers.explore,
    reparse.reparse,
    doctor_selftest.doctor,
    doctor_selftest.selftest,
    bench.bench,
):
    app.command()(command)


def main() -> None:
    """Run the command line; print an `MhBatchError` as one line and exit with its code."""
    # whatever the umask, our files are never writable for everybody
    os.umask(os.umask(0o077) | 0o002)
    for stream in (sys.stdout, sys.stderr):
        # an answer may hold characters that the terminal's encoding lacks
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MhBatchError as error:
        say(f"mh-batch: {error}")
        sys.exit(error.exit_code)
    except sqlite3.Error as error:
        # a damaged file may raise it anywhere
        from mh_batch.store.faults import file_fault

        message = file_fault(error, "the database") or f"the database: {error}"
        say(f"mh-batch: {message}; `mh-batch doctor` says more")
        sys.exit(3)
    except OSError as error:
        # a full disk behind standard output, missing permissions: not a fault of the program
        name = f"{error.filename}: " if error.filename else ""
        say(f"mh-batch: {name}{error.strerror or error}")
        sys.exit(3)


if __name__ == "__main__":
    main()
