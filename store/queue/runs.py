"""One row for each run of the worker: its model, its device, and why it ended."""

from collections.abc import Mapping

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.generation import ModelInfo
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate

from . import transitions
from .submit import purge_abandoned

_START = """
INSERT INTO runs (started_at, settings, versions, parallel, accept) VALUES (?, ?, ?, ?, ?)
RETURNING id
"""
_MODEL = """
UPDATE runs SET model = ?, model_fingerprint = ?, device = ?, versions = json_patch(versions, ?)
WHERE id = ?
"""
_ALLOW_VARIANCE = "UPDATE runs SET allow_variance = 1 WHERE id = ?"
_LIMIT_ROWS = "UPDATE runs SET most_rows = ? WHERE id = ?"
_FINISH = "UPDATE runs SET finished_at = ?, jobs_done = ?, end_reason = ? WHERE id = ?"


def start_run(
    db: Database,
    settings_json: str,
    versions: Mapping[str, str],
    *,
    parallel: int = 1,
    accept: str | None = None,
) -> int:
    """Record that a worker starts; return the run's id.

    `parallel` is the worker's number of slots; batches that began with another keep theirs.
    `accept` says which function checks the answers, as JSON; `None` if none does.
    """
    encoded = msgspec.json.encode(dict(versions)).decode()
    values = (now(), settings_json, encoded, parallel, accept)
    with immediate(db):
        return int(db.conn.execute(_START, values).fetchone()[0])


def set_run_model(db: Database, run_id: int, model: ModelInfo) -> None:
    """Record which model a run has loaded, in place of the one before; its versions are added."""
    versions = msgspec.json.encode(model.versions).decode()
    values = (model.name, model.fingerprint, model.device, versions, run_id)
    with immediate(db):
        db.conn.execute(_MODEL, values)


def limit_rows(db: Database, run_id: int, most_rows: int) -> None:
    """Record that a run has at most `most_rows` conversations at once from now on.

    A drain does so after shared deaths for which no single conversation was to blame.
    """
    with immediate(db):
        db.conn.execute(_LIMIT_ROWS, (most_rows, run_id))


def allow_variance(db: Database, run_id: int) -> None:
    """Record that a run uses slots although a self-test failed."""
    with immediate(db):
        db.conn.execute(_ALLOW_VARIANCE, (run_id,))


def finish_run(db: Database, run_id: int, jobs_done: int, end_reason: str) -> None:
    """Record how a run ended; a run that crashed has no end."""
    with immediate(db):
        db.conn.execute(_FINISH, (now(), jobs_done, end_reason, run_id))


def recover(db: Database) -> int:
    """Queue the jobs of a dead worker again, and purge batches whose submitter is gone.

    Jobs that somebody asked to cancel are `cancelled` instead. Returns how many jobs were queued
    again. Only the holder of the worker's lock may call it.
    """
    with immediate(db):
        # first: a queued job has no request any more
        transitions.cancel_requested(db)
        requeued = transitions.release(db)
    purge_abandoned(db)
    return requeued
