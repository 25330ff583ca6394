"""What a night made, as values that two nights can be compared by: times, ids and runs aside."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

Row = tuple[object, ...]
Content = dict[str, dict[Row, list[object]]]
"""By table, then by the job's `custom_id` and the place: the columns of each row that is there,
or the bytes of a file."""

PLACE = "j.custom_id, a.choice, a.turn, a.step, a.attempt"
OF_ATTEMPT = "JOIN attempts AS a ON a.id = {} JOIN jobs AS j ON j.id = a.job_id"
ASIDE = {
    *("id", "job_id", "run_id", "batch_id", "parse_id", "attempt_id", "accepted_attempt_id"),
    *("started_at", "finished_at", "submitted_at", "reused_tokens", "prefill_tokens"),
    "rows",  # how many others there were
}
ASIDE_ENDINGS = ("_seconds", "_per_second", "_bytes")
SOURCES = {
    "batches": "b.name FROM batches AS x JOIN batches AS b ON b.id = x.id",
    "jobs": "j.custom_id FROM jobs AS x JOIN jobs AS j ON j.id = x.id",
    "attempts": f"{PLACE} FROM attempts AS x {OF_ATTEMPT.format('x.id')}",
    "turns": f"{PLACE} FROM turns AS x {OF_ATTEMPT.format('x.accepted_attempt_id')}",
    "parses": f"{PLACE} FROM parses AS x {OF_ATTEMPT.format('x.attempt_id')}",
    "timings": f"{PLACE} FROM timings AS x {OF_ATTEMPT.format('x.attempt_id')}",
    "channels": f"{PLACE}, x.position FROM channels AS x {OF_ATTEMPT.format('x.attempt_id')}",
}
"""For each table the key of a row, and where it comes from."""


def content(folder: Path) -> Content:
    """Return everything that a night is judged by."""
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        made = {table: _by_key(_rows(db, table)) for table in SOURCES}
        made["artifacts"] = _by_key(_files(db, folder / "logs"))
    return made


def differences(one: Content, other: Content) -> list[str]:
    """Return where two contents differ, a line each."""
    return [
        f"{table} {key}: {_short(one[table].get(key))} is {_short(other[table].get(key))}"
        for table in one
        for key in sorted(one[table].keys() | other[table].keys(), key=repr)
        if one[table].get(key) != other[table].get(key)
    ]


def unsound(folder: Path) -> list[str]:
    """Return what is wrong with a night's files by themselves."""
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        integrity = [row[0] for row in db.execute("PRAGMA integrity_check")]
        dangling = db.execute("PRAGMA foreign_key_check").fetchall()
        loading = db.execute("SELECT count(*) FROM batches WHERE state = 'loading'").fetchone()[0]
    halves = [str(path) for path in (folder / "logs").rglob("*.partial")]
    found = [f"integrity_check: {text}" for text in integrity if text != "ok"]
    found += [f"foreign_key_check: {row}" for row in dangling]
    found += [f"half an artifact: {path}" for path in halves]
    return found + ([f"{loading} batches left loading"] if loading else [])


def not_ended(folder: Path, told: set[str]) -> list[str]:
    """Return the jobs that were told as ended and are not, by the database."""
    ended = "SELECT custom_id FROM jobs WHERE status NOT IN ('queued', 'running')"
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db:
        on_disk = {row[0] for row in db.execute(ended)}
    return [f"told as ended, and lost: {custom_id}" for custom_id in sorted(told - on_disk)]


def _by_key(found: Iterator[tuple[Row, object]]) -> dict[Row, list[object]]:
    """Return all that there is of each key: what is there twice must show."""
    kept: dict[Row, list[object]] = {}
    for key, value in found:
        kept.setdefault(key, []).append(value)
    return kept


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[Row, Row]]:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    kept = [
        f"x.{column}"
        for column in columns
        if column not in ASIDE and not column.endswith(ASIDE_ENDINGS)
    ]
    key, _, source = SOURCES[table].partition(" FROM ")
    width = key.count(",") + 1
    for row in db.execute(f"SELECT {key}, {', '.join(kept)} FROM {source}"):
        yield tuple(row[:width]), tuple(row[width:])


def _files(db: sqlite3.Connection, logs: Path) -> Iterator[tuple[Row, bytes]]:
    for job_id, batch_id, custom_id in db.execute("SELECT id, batch_id, custom_id FROM jobs"):
        for path in (logs / str(batch_id) / str(job_id)).glob("*"):
            yield (custom_id, path.name), path.read_bytes()


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
