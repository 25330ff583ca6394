"""What the reading commands print: status, results, one conversation, a query."""

import csv
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlite_utils import Database

from mh_batch.jobs.errors import EnvironmentFault, InputError
from mh_batch.jobs.formats import FORMATS
from mh_batch.jobs.record import Attempt
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.connection import location
from mh_batch.store.query import query
from mh_batch.store.queue import recorded
from mh_batch.store.reports import batch_reports, find_batch, find_job, latest_batch
from mh_batch.store.results import finished_job, finished_jobs

UNFOLDED = 1_000_000
TABLE_ROWS = 1000
DATABASE_ENDINGS = ("", "-wal", "-shm", ".lock", ".submit.lock")


def print_status(db: Database, ref: str | None, as_json: bool) -> None:
    """Print a row a batch; `ref` names one batch, `None` means all."""
    reports = batch_reports(db, find_batch(db, ref).id if ref else None)
    if as_json:
        print(msgspec.json.encode(reports).decode())
        return
    if not reports:
        print("no batches yet; `mh-batch submit FILE` makes one")
        return
    # a column for every status would not fit a terminal: only those that some job has
    shown = [s for s in Status if s is Status.DONE or any(r.counts.get(s) for r in reports)]
    columns = ["batch", "name", "jobs", *(str(s) for s in shown), "tokens", "tok/s", "submitted"]
    rows = []
    for r in reports:
        speed = f"{r.tokens_per_second:.1f}" if r.tokens_per_second else "-"
        counts = [r.counts.get(status, 0) for status in shown]
        when = r.submitted_at[:16].replace("T", " ")
        rows.append([r.id, r.name, r.total, *counts, r.completion_tokens, speed, when])
    _print_table(columns, rows)


def write_results(
    db: Database, ref: str | None, output: str, form: str, statuses: str | None
) -> int:
    """Write finished jobs as JSON lines and return how many; `None` for the latest batch.

    A file appears whole or not at all.
    """
    chosen = FORMATS[form]
    wanted = parse_statuses(statuses) if statuses else chosen.statuses
    batch = find_batch(db, ref) if ref else latest_batch(db)
    written = 0
    with _output(output, location(db)) as out:
        for job in finished_jobs(db, batch.id, sorted(wanted)):
            out.write(msgspec.json.encode(chosen.line(job)).decode() + "\n")
            written += 1
    return written


def parse_statuses(text: str) -> frozenset[Status]:
    """Return the statuses in `done,failed`; raises `InputError` naming those there are."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in set(FINISHED):
            raise InputError(f"--status {name}: there are {', '.join(sorted(FINISHED))}")
    return frozenset(Status(name) for name in names)


def check_output(path: str, db: Path, *inputs: str) -> None:
    """Raise `InputError` if results cannot go to `path`: before hours of work, not after them.

    They must not overwrite the database `db` and what belongs to it, nor any of `inputs`.
    """
    target = Path(path).resolve()
    taken = [db.resolve().with_name(db.resolve().name + end) for end in DATABASE_ENDINGS]
    if path != "-" and target in (*taken, *(Path(name).resolve() for name in inputs)):
        raise InputError(f"{path}: the results would overwrite it")
    folder = Path(path).resolve().parent
    if path != "-" and not folder.is_dir():
        raise InputError(f"{path}: there is no folder {folder}")
    if Path(path).is_dir():
        raise InputError(f"{path}: a folder, not a file")


@contextmanager
def _output(path: str, db: Path) -> Iterator[TextIO]:
    """Open standard output for `-`, else a file that appears whole or not at all.

    What is no ordinary file (a pipe, a device) is written to as it is. Raises `EnvironmentFault`
    on a full disk and the like.
    """
    check_output(path, db)
    if path == "-":
        yield sys.stdout
        return
    target = Path(path).resolve()
    replaces = target.is_file() or not target.exists()
    written = target.with_name(target.name + ".partial") if replaces else target
    try:
        with written.open("w", encoding="utf-8") as out:
            yield out
        if replaces:
            if target.exists():
                shutil.copymode(target, written)
            written.replace(target)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise EnvironmentFault(f"{path}: {error.strerror}") from None
    finally:
        if replaces:
            written.unlink(missing_ok=True)


def print_job(db: Database, ref: str, with_attempts: bool) -> None:
    """Print one conversation; `with_attempts` adds every attempt with its verdict and times."""
    job = finished_job(db, find_job(db, ref))
    console = _console()
    console.print(Text(f"job {job.id} · {job.custom_id} · batch {job.batch} · {job.status}"))
    if job.error:
        console.print(Text(f"{job.error_code}: {job.error}", style="red"))
    for message in job.request.messages:
        _print_message(console, message.role, message.content)
    attempts = recorded(db, job.id).attempts if with_attempts else ()
    for turn in job.turns:
        if turn.place.turn > 1 or not job.request.asks:
            _print_message(console, "user", turn.user or "")
        for attempt in attempts:
            if attempt.place.whole == turn.place.whole:
                console.print(Text(attempt_line(attempt), style="dim"))
        for channel in turn.parse.channels:
            name = (
                f"{channel.channel} to {channel.recipient}"
                if channel.recipient
                else (channel.channel)
            )
            _print_message(console, f"assistant · {name}", channel.text)
    settled = {turn.place.whole for turn in job.turns}
    for attempt in attempts:
        if attempt.place.whole not in settled:
            console.print(Text(attempt_line(attempt), style="dim"))


def attempt_line(attempt: Attempt) -> str:
    """Return one attempt in a line: verdict, why it ended, tokens, seconds, speed."""
    t = attempt.generation.timings
    speed = f"{t.tokens_per_second:.1f} tok/s" if t.tokens_per_second else "no decode"
    reason = f" ({attempt.retry_reason})" if attempt.retry_reason else ""
    return (
        f"  attempt {attempt.place.attempt}: {attempt.verdict}{reason}, "
        f"{attempt.generation.stop_reason}, {attempt.generation.parse.rung} parse, "
        f"{t.prompt_tokens} + {t.completion_tokens} tokens, prefill {t.prefill_seconds:.2f} s, "
        f"decode {t.decode_seconds:.2f} s, {speed}"
    )


def _print_message(console: Console, who: str, text: str) -> None:
    styles = {"user": "bold cyan", "system": "magenta", "developer": "magenta"}
    style = styles.get(who, "dim" if "analysis" in who else "green")
    console.print(Text(f"── {who}", style=style))
    console.print(Text(text))


def print_query(path: Path, sql: str, form: str) -> None:
    """Run one read-only query and print it as `table`, `csv` or `json` (a line a row).

    A table shows at most `TABLE_ROWS` rows and says so: its columns are as wide as their widest
    value, so all of it is held in memory. The other forms stream.
    """
    columns, rows = query(path, sql)
    if form == "table":
        shown = list(islice(rows, TABLE_ROWS))
        _print_table(columns, shown)
        if next(iter(rows), None) is not None:
            print(f"... the first {TABLE_ROWS} rows; --csv and --json give all", file=sys.stderr)
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows(rows)
    else:
        for row in rows:
            print(msgspec.json.encode(dict(zip(columns, row, strict=True))).decode())


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    _console().print(table)


def _console() -> Console:
    """Return standard output; a pipe or a file has no width, so nothing is folded there."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)
