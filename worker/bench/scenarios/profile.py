"""A profile of the engine's Python code by cProfile."""

import cProfile
import pstats
from pathlib import Path
from typing import Any

from mh_batch.worker.bench.bench import Bench
from mh_batch.worker.bench.report.report import ProfileLine
from mh_batch.worker.bench.workload import COUNTING

TOP = 20


def profile(bench: Bench) -> tuple[ProfileLine, ...]:
    """Return the functions with most time of their own during a default job's generation."""
    values = {"max_tokens": bench.sizes.decode, "temperature": 1.0}
    bench.subject.generate(COUNTING, values)
    recorder = cProfile.Profile()
    recorder.runcall(bench.subject.generate, COUNTING, values)
    return top(pstats.Stats(recorder), TOP)


def top(stats: pstats.Stats, count: int) -> tuple[ProfileLine, ...]:
    """Return the `count` functions with most time of their own, the slowest first."""
    table: dict[tuple[str, int, str], Any] = getattr(stats, "stats")  # noqa: B009
    lines = [
        ProfileLine(_label(*function), calls, own, total)
        for function, (_, calls, own, total, _) in table.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.own_seconds, line.function))[:count])


def _label(file: str, line: int, name: str) -> str:
    """Return a function's name with its file and that file's folder."""
    if file == "~":
        return name
    path = Path(file)
    return f"{path.parent.name}/{path.name}:{line} {name}"
