"""The command line as tests run it, and its database as a notebook reads it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

from mh_batch.worker.cli import main

MAIN = (
    # a shell that starts the tests in the background of a script has every child ignore Ctrl-C
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mh_batch.worker.cli import main; main()"
)

Done = subprocess.CompletedProcess[str]


def mh_batch(
    folder: Path, *arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None
) -> Done:
    """Run the command line in `folder` and expect an exit code; `None` for whatever it is.

    It runs in this process, which saves the imports. The model has a process of its own as ever.
    """
    written = BytesIO(), BytesIO()
    out, err = (TextIOWrapper(stream, "utf-8", write_through=True) for stream in written)
    ended = call(folder, arguments, (out, err), env or {})
    done = subprocess.CompletedProcess(arguments, ended, *(map(read, written)))
    return expected(code, done)


def call(
    folder: Path,
    arguments: Sequence[str],
    streams: tuple[TextIO, TextIO],
    env: Mapping[str, str],
) -> int:
    """Run the command line in this process and return its exit code."""
    with (
        chdir(folder),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
        patch.object(sys, "argv", ["mh-batch", *arguments]),
        # else click takes the name of the module that pytest was started as
        patch.object(sys.modules["__main__"], "__package__", None),
        patch.dict(os.environ, {**environment(), **env}, clear=True),
    ):
        try:
            main()
        except SystemExit as exited:
            return exited.code if isinstance(exited.code, int) else int(exited.code is not None)
    return 0


def mh_batch_process(
    folder: Path,
    *arguments: str,
    code: int | None = 0,
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run the command line in `folder` as a process of its own, and expect an exit code."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**environment(), **(env or {})},
        check=False,
    )
    return expected(code, done)


def environment() -> dict[str, str]:
    """Return the environment without the settings of whoever runs the tests."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")}


def expected(code: int | None, done: Done) -> Done:
    """Return what a command left, if it ended with this code or `code` is `None`."""
    assert code in (None, done.returncode), f"{done.args}: {done.returncode}\n{done.stderr}"
    return done


def read(written: BytesIO) -> str:
    """Read what was written as a pipe is read as text: whatever ends a line is a newline."""
    written.seek(0)
    return TextIOWrapper(written, "utf-8").read()


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read with a plain sqlite3 connection, as a user's notebook would."""
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        return db.execute(sql).fetchall()


def write_lines(folder: Path, lines: Iterable[object]) -> Path:
    """Write an input file."""
    path = folder / "convos.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
