"""The command line as tests run it, and its database as a notebook reads it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

MAIN = (
    # a shell that starts the tests in the background of a script has every child ignore Ctrl-C
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mh_batch.worker.cli import main; main()"
)


def mh_batch(
    folder: Path, *arguments: str, code: int | None = 0, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder` and expect an exit code; `None` for whatever it is."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={k: v for k, v in os.environ.items() if not k.startswith("MH_BATCH")},
        check=False,
    )
    assert code in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stderr}"
    return done


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read with a plain sqlite3 connection, as a user's notebook would."""
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        return db.execute(sql).fetchall()


def write_lines(folder: Path, lines: Iterable[object]) -> Path:
    """Write an input file."""
    path = folder / "convos.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
