"""Where the answers of a batch come from: models, settings, outcome, dates."""

import msgspec
from sqlite_utils import Database

from mh_batch.store.connection import snapshot
from mh_batch.store.lookup import BatchRow

from .batches import BatchReport, batch_reports

_SETTINGS = "SELECT settings FROM batches WHERE id = ?"
_MODELS = """
SELECT model, fingerprint, device, versions, parallel, defaults FROM batch_models
WHERE batch_id = ? ORDER BY model
"""
_DATES = "SELECT min(started_at), max(finished_at) FROM jobs WHERE batch_id = ?"
_CHANGED = """
SELECT r.settings, count(DISTINCT r.job_id)
FROM jobs AS j CROSS JOIN retry_settings AS r ON r.job_id = j.id
WHERE j.batch_id = ? GROUP BY r.settings ORDER BY min(r.at)
"""


class Origin(msgspec.Struct, frozen=True):
    """A model of a batch as it was when the batch began; `None` for what was not recorded.

    `versions` is JSON, `parallel` how many conversations decoded together. `defaults` is the JSON
    of what the model itself says for settings that were left open, `None` if that is not used.
    """

    model: str
    fingerprint: str
    device: str | None
    versions: str | None
    parallel: int
    defaults: str | None = None


class Provenance(msgspec.Struct, frozen=True):
    """Where the answers of a batch come from.

    `settings` is the JSON it was submitted with; `changed` are settings that retries gave to some
    of its jobs, as JSON, and to how many.
    """

    report: BatchReport
    settings: str
    models: tuple[Origin, ...]
    started_at: str | None
    finished_at: str | None
    changed: tuple[tuple[str, int], ...]


def provenance(db: Database, batch: BatchRow) -> Provenance:
    """Return where the answers of a batch come from, all of it from one state of the database."""
    with snapshot(db):
        (report,) = batch_reports(db, batch.id)
        of_batch = (batch.id,)
        started_at, finished_at = db.conn.execute(_DATES, of_batch).fetchone()
        return Provenance(
            report=report,
            settings=db.conn.execute(_SETTINGS, of_batch).fetchone()[0],
            models=tuple(Origin(*row) for row in db.conn.execute(_MODELS, of_batch)),
            started_at=started_at,
            finished_at=finished_at,
            changed=tuple((row[0], row[1]) for row in db.conn.execute(_CHANGED, of_batch)),
        )
