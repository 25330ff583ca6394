"""The tables of `status` and `query`, also as CSV and JSON lines."""

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.status import Status
from mh_batch.store.connection import location, snapshot
from mh_batch.store.lookup import find_batch
from mh_batch.store.reports.batches import BatchReport, batch_reports
from mh_batch.store.reports.figures import Figures, as_seen, figures_of, latest_batches
from mh_batch.store.reports.progress import Latest, latest
from mh_batch.store.reports.query import ask, recipe, recipes
from mh_batch.worker.runtime.worker_pid import worker_pid
from mh_batch.worker.text.console import print_table, shortened
from mh_batch.worker.text.format import format_duration

from .files import STDOUT, open_output, print_json
from .interruption import reading_from
from .rows import csv_writer, json_writer

TABLE_ROWS = 1000
LONGEST_NAME = 32
"""The widest that a batch's name is shown in a table; `--json` has all of it."""


_MAKE_ONE = "`mh-batch submit FILE` makes one"


def print_status(db: Database, ref: str | None, as_json: bool, *, archived: bool = False) -> None:
    """Print one row per batch; `ref` names one batch, `None` means all.

    Of all, those that are archived are left out unless `archived` is true.
    """
    batch_id = find_batch(db, ref).id if ref else None
    working = worker_pid(location(db)) is not None
    with snapshot(db):
        found = latest(db)
        recorded = batch_reports(db, batch_id, archived=archived)
        reports = as_seen(recorded, found, working=working)
        # an archived batch is in the figures only if it is named
        listed = [r for r in recorded if ref or r.archived_at is None]
        now = figures_of(listed, latest_batches(db, listed, found), found, working=working)
    if as_json:
        print_json([_with_figures(report, found, working=working) for report in reports])
        return
    if not reports:
        every = batch_reports(db, None, archived=True)
        there = "`mh-batch status --all` lists the archived ones" if every else _MAKE_ONE
        print(f"no batches{'' if every else ' yet'}; {there}")
        return
    # all statuses would not fit a terminal: only those that some job has
    shown = [s for s in Status if s is Status.DONE or any(r.counts.get(s) for r in reports)]
    names = [str(s) for s in shown]
    with_rescued = any(r.rescued for r in reports)
    if with_rescued:
        names.insert(shown.index(Status.DONE) + 1, "rescued")
    columns = ["batch", "name", "jobs", *names, "tokens", "tok/s", "submitted"]
    if any(r.archived_at for r in reports):
        columns.append("archived")
    rows = []
    for r in reports:
        speed = f"{r.tokens_per_second:.1f}" if r.tokens_per_second else "-"
        counts = [r.counts.get(status, 0) for status in shown]
        if with_rescued:
            counts.insert(shown.index(Status.DONE) + 1, r.rescued)
        name, when = shortened(r.name, LONGEST_NAME), _minute(r.submitted_at)
        row = [r.id, name, r.total, *counts, r.completion_tokens, speed, when]
        rows.append([*row, _minute(r.archived_at or "")][: len(columns)])
    print_table(columns, rows)
    if working:
        print(_now(now))


def _with_figures(report: BatchReport, found: Latest, *, working: bool) -> dict[str, Any]:
    """Return a batch as JSON, with its speed now and the time left; `null` if not known."""
    now = figures_of([report], [report.id], found, working=working)
    return {
        **msgspec.to_builtins(report),
        "tokens_per_second_now": now.tokens_per_second,
        "seconds_left": now.seconds_left,
    }


def _now(now: Figures) -> str:
    """Return the line about a worker that runs."""
    parts = [f"{len(now.running)} running", f"{now.queued:,} queued"]
    if now.tokens_per_second is not None:
        parts.append(f"{now.tokens_per_second:.0f} tok/s now")
    if now.seconds_left is not None:
        parts.append(f"about {format_duration(now.seconds_left)} left")
    return f"a worker is running: {', '.join(parts)}"


def recipe_sql(name: str) -> str:
    """Return the SQL of a recipe; raises `UnknownTarget` naming similar recipes."""
    return recipe(name).sql


def print_recipes(form: str) -> None:
    """Print the recipes of the cookbook and what they answer; `form` as in `print_query`."""
    columns = ("recipe", "question")
    rows = [(entry.name, entry.about) for entry in recipes().values()]
    if form == "table":
        print_table(columns, rows)
    else:
        _stream(columns, rows, form)


def print_query(path: Path, sql: str, form: str, seconds: float | None = None) -> None:
    """Run one read-only query and print it as `table`, `csv`, `raw_csv` or `json` (JSON lines).

    A table holds all its rows in memory to size its columns, so it stops at `TABLE_ROWS` with a
    note. The other forms stream. A BLOB is written in hex. Raises `Interrupted` after `seconds`;
    `None` sets no limit.
    """
    with reading_from(path, seconds) as db:
        columns, rows = ask(db, sql)
        readable = (tuple(map(_readable, row)) for row in rows)
        if form == "table":
            print_table(columns, list(islice(readable, TABLE_ROWS)))
            if next(readable, None) is not None:
                note = f"... the first {TABLE_ROWS} rows; --csv and --json give all"
                print(note, file=sys.stderr)
            return
        _stream(columns, readable, form)


def _stream(columns: Sequence[str], rows: Iterable[tuple[Any, ...]], form: str) -> None:
    with open_output(STDOUT) as out:
        if form == "json":
            write, keys = json_writer(out), distinct(columns)
            for row in rows:
                write(dict(zip(keys, row, strict=True)))
            return
        write_row = csv_writer(out, raw=form == "raw_csv")
        write_row(columns)
        for row in rows:
            write_row(row)


def distinct(columns: Sequence[str]) -> list[str]:
    """Return column names as the keys of an object: a second `count(*)` becomes `count(*):2`."""
    keys: list[str] = []
    for column in columns:
        key, number = column, 1
        # never the name of another column
        while key in keys or (number > 1 and key in columns):
            number += 1
            key = f"{column}:{number}"
        keys.append(key)
    return keys


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _readable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
