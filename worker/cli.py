"""The command line: every command, and how an error ends it.

Nothing slow is imported up here: `--help` must be quick.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` looks for modules in the working folder first, where a `json.py` is data
    del sys.path[0]

import os
import sqlite3
from io import TextIOWrapper
from typing import Annotated

import typer

from mh_batch.jobs.errors import MhBatchError
from mh_batch.worker.commands.shared import say

from .commands import bench, evening, morning, night

app = typer.Typer(
    name="mh-batch",
    help="Overnight batch processor for local language models: JSONL in, SQLite out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


# in the order in which `--help` names them
for command in (
    evening.submit,
    night.work,
    night.run,
    night.status,
    morning.results,
    morning.show,
    night.cancel,
    night.retry,
    morning.query,
    morning.timings,
    morning.report,
    morning.explore,
    morning.reparse,
    evening.doctor,
    bench.bench,
):
    app.command()(command)


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
        say(f"mh-batch: {error}")
        sys.exit(error.exit_code)
    except sqlite3.Error as error:
        # whatever a damaged file says where nobody expected it
        from mh_batch.store.faults import file_fault

        told = file_fault(error, "the database") or f"the database: {error}"
        say(f"mh-batch: {told}; `mh-batch doctor` says more")
        sys.exit(3)
    except OSError as error:
        # a full disk behind standard output, no rights somewhere: not a fault of the program
        name = f"{error.filename}: " if error.filename else ""
        say(f"mh-batch: {name}{error.strerror or error}")
        sys.exit(3)


if __name__ == "__main__":
    main()
