"""What it costs to submit a file, compared with a bare loop that checks nothing."""

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from mh_batch.worker.bench.bench import Bench, Found, work_folder
from mh_batch.worker.bench.report.report import Figure
from mh_batch.worker.bench.rounds import Sample, figure
from mh_batch.worker.bench.usage import peak_memory
from mh_batch.worker.bench.workload import long_lines
from mh_batch.worker.runtime.child import PYTHON

OURS, PLAIN = "submit", "bare loop"
CHILD = "from mh_batch.worker.bench.scenarios.submit import child; child()"
CHUNK = 2000


class Cost(msgspec.Struct, frozen=True):
    """The cost of one process; `peak_bytes` is its peak memory."""

    seconds: float
    peak_bytes: int


def submit(bench: Bench) -> Found:
    """Submit files of two sizes, each by a process of its own."""
    with work_folder() as folder:
        for lines in bench.sizes.submit_lines:
            yield from _of_size(bench, folder, lines)


def _of_size(bench: Bench, folder: Path, lines: int) -> Iterator[Figure]:
    file = folder / f"{lines}.jsonl"
    with file.open("wb") as out:
        out.writelines(long_lines(lines))
    costs: dict[str, list[Cost]] = {OURS: [], PLAIN: []}

    def measured(name: str) -> Sample:
        cost = run_child(name, file)
        costs[name].append(cost)
        return Sample(lines / cost.seconds)

    samples = bench.interleave({name: partial(measured, name) for name in costs}, warm=False)
    case = f"{lines:,} lines of 1 KB"
    over = {f"of {PLAIN}": PLAIN}
    yield figure(("submit", f"{case}, {OURS}"), "lines/s", samples, OURS, over)
    yield figure(("submit", f"{case}, {PLAIN}"), "lines/s", samples, PLAIN)
    peak = max(cost.peak_bytes for cost in costs[OURS])
    yield Figure("submit", f"{case}, peak memory", peak, "bytes", n=len(costs[OURS]))
    file.unlink()


def run_child(name: str, file: Path) -> Cost:
    """Run `submit` or the bare loop over `file` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        arguments = [*PYTHON, "-c", CHILD, name, str(file), f"{folder}/mh-batch.db"]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Cost)


def child() -> None:
    """Run as that process: submit, and print the cost."""
    name, file, db = sys.argv[1:]
    action: Callable[[Path, Path], None] = {OURS: ours, PLAIN: bare}[name]
    begin = time.perf_counter()
    action(Path(file), Path(db))
    seconds = time.perf_counter() - begin
    print(msgspec.json.encode(Cost(seconds, peak_memory())).decode())


def ours(file: Path, path: Path) -> None:
    """Submit as the command does."""
    from mh_batch.jobs.record import NewBatch
    from mh_batch.jobs.settings import Settings
    from mh_batch.store.connection import open_store
    from mh_batch.worker.submission.submission import submit_stream

    db = open_store(path)
    with file.open("rb") as stream:
        submit_stream(db, stream, NewBatch("bench", str(file), Settings()))
    db.close()


def bare(file: Path, path: Path) -> None:
    """Decode each line and insert it as it is, in transactions of the same size."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, custom_id TEXT, request TEXT)")
    with file.open("rb") as stream:
        rows: list[tuple[str, str]] = []
        for line in stream:
            rows.append((json.loads(line)["custom_id"], line.decode()))
            if len(rows) == CHUNK:
                _insert(conn, rows)
                rows = []
        _insert(conn, rows)
    conn.close()


def _insert(conn: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany("INSERT INTO jobs (custom_id, request) VALUES (?, ?)", rows)
    conn.execute("COMMIT")
