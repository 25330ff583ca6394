"""Plays what `python ARGUMENTS` would do, in a fork of a process that has imported everything."""

import json
import os
import random
import runpy
import sys
from typing import Any

import anyio

import mh_batch.engine.generate
import mh_batch.engine.model.load
import mh_batch.worker.draining.run
import mh_batch.worker.model_process.child.server  # noqa: F401
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.worker.cli import main as _  # noqa: F401

from . import made  # noqa: F401  (what a scripted model answers with)
from .forks import Forks
from .output_layer import compute_in_floats


def warm() -> None:
    """Have in memory what every model process begins with, before any is forked."""
    compute_in_floats()
    HarmonyAdapter()


def play(role: dict[str, Any]) -> int:
    """Run the program to its end and return its exit code."""
    os.setsid()
    os.chdir(role["folder"])
    os.environ.clear()
    os.environ.update(role["environ"])
    random.seed()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    # a model process of this one is forked too
    forked = Forks(role["socket"]).replaces(anyio.open_process)
    anyio.open_process = forked  # type: ignore[assignment]
    try:
        run(role["arguments"])
    except SystemExit as ended:
        return _code(ended.code)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def run(arguments: list[str]) -> None:
    """Run `-m MODULE`, `-c CODE` or a script, with what follows as its arguments."""
    first, *rest = arguments
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")


def _code(code: object) -> int:
    """The exit code that Python makes of what `sys.exit` got."""
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(play(json.loads(sys.argv[1])))
