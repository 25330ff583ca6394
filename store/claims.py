"""Which job is next, and taking it.

The order: priority, then batch, then position. Among the jobs of one priority and batch those of
the loaded model go first, so that a model is swapped only when the batch or the priority asks.
"""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request
from mh_batch.jobs.errors import ModelChanged, NoModel
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.seeds import job_seed
from mh_batch.jobs.settings import Settings, apply

from .clock import now
from .connection import immediate, snapshot
from .sql import script

FIRST_OF_MODEL = """
SELECT id, model, position FROM jobs
WHERE status = 'queued' AND priority = ? AND batch_id = ? AND model IS ?
ORDER BY position
LIMIT 1
"""
_TAKE = """
UPDATE jobs
SET status = 'running', started_at = ?, finished_at = NULL, error_code = NULL, error = NULL,
    model = ?, model_fingerprint = ?, run_id = ?
WHERE id = ?
RETURNING position, custom_id, request
"""
_BATCH = "SELECT settings, submitted_at FROM batches WHERE id = ?"
_FREEZE_MODEL = "UPDATE batches SET model = ? WHERE id = ? AND model IS NULL"
_FREEZE_FINGERPRINT = "INSERT OR IGNORE INTO batch_models VALUES (?, ?, ?)"
_FROZEN = "SELECT fingerprint FROM batch_models WHERE batch_id = ? AND model = ?"


class _Next(msgspec.Struct, frozen=True):
    """The next job; `model` is the one it needs, `None` if nobody names one.

    `inherited` says that the job names no model itself.
    """

    id: int
    batch_id: int
    batch: str
    model: str | None
    inherited: bool


def next_model(db: Database, default: str | None, loaded: str | None) -> str | None:
    """Return the model the next claim needs, `None` when nothing is queued.

    `default` is for jobs and batches that name none, `loaded` the model in memory. Raises
    `NoModel` if the next job has no model.
    """
    with snapshot(db):
        job = _next(db, default, loaded)
    if job is None:
        return None
    if job.model is None:
        raise NoModel(
            f"batch {job.batch_id} ({job.batch}) names no model; name one with --model: "
            "demo to try it, a local folder, or a hub name such as "
            "mlx-community/gpt-oss-20b-MXFP4-Q8"
        )
    return job.model


def claim(db: Database, run_id: int, model: ModelInfo, default: str | None) -> ClaimedJob | None:
    """Take the next job if it is one for `model`; `None` if there is none or it needs another.

    `default` is for jobs and batches that name no model. The first claim of a batch freezes the
    model and its fingerprint. Raises `ModelChanged`, with the job still queued, if the batch
    began with other weights under that name.
    """
    with immediate(db):
        job = _next(db, default, model.name)
        if job is None or job.model != model.name:
            return None
        _freeze(db, job, model)
        values = (now(), model.name, model.fingerprint, run_id, job.id)
        row = db.conn.execute(_TAKE, values).fetchone()
        batch = db.conn.execute(_BATCH, (job.batch_id,)).fetchone()
    request = msgspec.json.decode(row["request"], type=Request)
    settings = msgspec.json.decode(batch["settings"], type=Settings)
    settings = apply(settings, request.settings)
    return ClaimedJob(
        id=job.id,
        batch_id=job.batch_id,
        position=row["position"],
        custom_id=row["custom_id"],
        model=model.name,
        request=request,
        settings=settings,
        seed=job_seed(settings.seed, row["custom_id"]),
        date=batch["submitted_at"][:10],
    )


def _next(db: Database, default: str | None, loaded: str | None) -> _Next | None:
    """Find the next job; every step is a look-up in the index of queued jobs."""
    head = db.conn.execute(script("claim_head.sql")).fetchone()
    if head is None:
        return None
    group = (head["priority"], head["batch_id"])
    inherited = head["model"] or default
    own_models = () if loaded is None else (loaded, None) if inherited == loaded else (loaded,)
    found = [db.conn.execute(FIRST_OF_MODEL, (*group, own)).fetchone() for own in own_models]
    rows = [row for row in found if row is not None]
    if not rows:
        names = {"priority": group[0], "batch_id": group[1]}
        rows = db.conn.execute(script("claim_models.sql"), names).fetchall()
    first = min(rows, key=lambda row: row["position"])
    return _Next(
        id=first["id"],
        batch_id=head["batch_id"],
        batch=head["batch"],
        model=first["model"] or inherited,
        inherited=first["model"] is None,
    )


def _freeze(db: Database, job: _Next, model: ModelInfo) -> None:
    """Fix which weights the batch goes on with, or find that they are other ones."""
    key = (job.batch_id, model.name)
    if job.inherited:
        db.conn.execute(_FREEZE_MODEL, (model.name, job.batch_id))
    db.conn.execute(_FREEZE_FINGERPRINT, (*key, model.fingerprint))
    began_with = db.conn.execute(_FROZEN, key).fetchone()[0]
    if began_with != model.fingerprint:
        raise ModelChanged(
            f"batch {job.batch_id} ({job.batch}) began with {model.name} of fingerprint "
            f"{began_with[:12]}, now it is {model.fingerprint[:12]}; bring the first weights "
            "back, or submit the file again as a new batch"
        )
