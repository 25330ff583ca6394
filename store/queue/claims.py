"""Which job is next, taking it, and giving it back.

Jobs go by priority, then batch, then position; in a batch ordered by prefix, jobs that begin alike
follow one another. Within one priority and batch the jobs of the loaded model go first, so that
models are swapped only where the batch or the priority changes.
"""

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.conversation import Request
from mh_batch.jobs.errors import (
    InternalError,
    JobError,
    NoModel,
    SettingsError,
    StoreUnusable,
    describe_error,
)
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.record import ClaimedJob, SkippedModels
from mh_batch.jobs.seeds import job_seed
from mh_batch.jobs.settings import NAMES, Settings, apply
from mh_batch.jobs.status import IllegalMove, Status
from mh_batch.store.connection import immediate, snapshot
from mh_batch.store.sql import statements

from . import freezing, transitions
from .history import metadata_of

_SQL = statements("queue/claims.sql")
FIRST_OF_MODEL = """
SELECT id, model, claim_key, position FROM jobs
WHERE status = 'queued' AND priority = ? AND batch_id = ? AND model IS ?
ORDER BY claim_key, position
LIMIT 1
"""
_BATCH = "SELECT settings, submitted_at FROM batches WHERE id = ?"
_FREEZE_MODEL = "UPDATE batches SET model = ? WHERE id = ? AND model IS NULL"
NOTHING = SkippedModels()


class _Next(msgspec.Struct, frozen=True):
    """A job to claim; `model` is the one it needs, `None` if nobody names one.

    `inherited` says that the job itself names none.
    """

    id: int
    batch_id: int
    batch: str
    model: str | None
    inherited: bool


def next_model(
    db: Database, default: str | None, loaded: str | None, skipped: SkippedModels = NOTHING
) -> str | None:
    """Return the model that the next claim needs, `None` if nothing is queued that can be run.

    `default` is for jobs and batches that name none, `loaded` the model in memory; jobs of
    `skipped` models are left out. Raises `NoModel` if all that is left are jobs without a model.
    """
    with snapshot(db):
        nameless = None
        for job in _candidates(db, default, loaded, skipped):
            if job.model is not None:
                return job.model
            nameless = nameless or job
    if nameless is None:
        return None
    raise NoModel(
        f"batch {nameless.batch_id} ({nameless.batch}) names no model; name one with --model: "
        "demo to try it, a local folder, or a hub name such as mlx-community/gpt-oss-20b-MXFP4-Q8"
    )


def claim(
    db: Database,
    run_id: int,
    model: ModelInfo,
    default: str | None,
    skipped: SkippedModels = NOTHING,
    *,
    parallel: int = 1,
    only: int | None = None,
    mix: bool = False,
) -> ClaimedJob | None:
    """Take the next job if it is one for `model`; `None` if there is none or it needs another.

    `default` is for jobs and batches that name no model; jobs of `skipped` models are left out. The
    first claim of a batch freezes the model, its fingerprint, its defaults for settings that nobody
    set, and `parallel`, the worker's number of slots. A batch with a recorded attempt on the model
    keeps its own number, unless `mix` replaces it. With `only`, a job for another number of slots
    is not taken: `None`, and nothing is frozen.
    Raises `ModelChanged`, with the job still queued, if the batch began with other weights under
    that name, and `StoreUnusable` if the settings of the batch cannot be read. A job whose own row
    cannot be read has a `fault`.
    """
    with immediate(db):
        candidates = _candidates(db, default, model.name, skipped)
        job = next((job for job in candidates if job.model is not None), None)
        if job is None or job.model != model.name:
            return None
        slots, mixed_from = _slots(db, job, model, parallel, mix=mix)
        if only is not None and slots != only:
            return None
        if job.inherited:
            db.conn.execute(_FREEZE_MODEL, (model.name, job.batch_id))
        freezing.freeze(db, job.batch_id, model, slots)
        row = transitions.start(db, job.id, model, run_id)
        submitted_at, settings = _read_batch(db, job)
        settings = freezing.filled(db, job.batch_id, model.name, settings)
    request, settings, fault = _read_row(row["request"], settings)
    return ClaimedJob(
        id=job.id,
        batch_id=job.batch_id,
        position=row["position"],
        custom_id=row["custom_id"],
        model=model.name,
        request=request,
        settings=settings,
        seed=job_seed(settings.seed, row["custom_id"]),
        date=submitted_at[:10],
        round=row["round"],
        fault=fault,
        parallel=slots,
        mixed_from=mixed_from,
        metadata=metadata_of(row["metadata"]),
    )


def release(db: Database, job_id: int) -> Status:
    """Queue a running job again, as it stands, or cancel it if somebody asked for that.

    Returns its new status. Raises `IllegalMove` if it is not running.
    """
    with immediate(db):
        if transitions.cancel_requested(db, job_id):
            return Status.CANCELLED
        if not transitions.release(db, job_id):
            status = transitions.status_of(db, job_id)
            raise IllegalMove(f"a job that is {status} cannot be released, only a running one")
    return Status.QUEUED


def _slots(
    db: Database, job: _Next, model: ModelInfo, offered: int, *, mix: bool
) -> tuple[int, int | None]:
    """Return in how many slots a job decodes, and which number that replaces, `None` for none.

    Raises `ModelChanged` for other weights than the batch began with.
    """
    began = freezing.frozen(db, job.batch_id, model.name)
    if began is None:
        return offered, None
    began.check(job.batch_id, job.batch, model)
    own = began.slots(offered)
    return (offered, own) if mix and own != offered else (own, None)


def _read_batch(db: Database, job: _Next) -> tuple[str, Settings]:
    """Return when the job's batch was submitted, and with which settings."""
    row = db.conn.execute(_BATCH, (job.batch_id,)).fetchone()
    try:
        return row["submitted_at"], msgspec.json.decode(row["settings"], type=Settings)
    except msgspec.DecodeError as error:
        raise StoreUnusable(
            f"batch {job.batch_id} ({job.batch}) was written by another version of the "
            f"program: {error}; upgrade, or submit its file again"
        ) from None


def _read_row(encoded: str, batch: Settings) -> tuple[Request, Settings, JobError | None]:
    """Return a job's request and effective settings, and why it cannot be run, `None` if it can.

    Settings that contradict the batch's are a `JobError`: an earlier `submit` accepted such lines,
    and they may still be queued. A row that cannot be read at all is an `InternalError`: another
    version of the program may have written it.
    """
    request = Request()
    try:
        request = msgspec.json.decode(encoded, type=Request)
        return request, apply(batch, request.settings), None
    except SettingsError as error:
        if request.settings.keys() <= NAMES:
            return request, batch, JobError(str(error))
        return request, batch, _unreadable(error)
    except Exception as error:  # noqa: BLE001  # whatever a row holds must not stop the queue
        return request, batch, _unreadable(error)


def _unreadable(error: Exception) -> InternalError:
    fault = InternalError(describe_error(error), "row")
    fault.__cause__ = error
    return fault


def _candidates(
    db: Database, default: str | None, loaded: str | None, skipped: SkippedModels
) -> Iterator[_Next]:
    """Yield the first job of each priority and batch, in claim order, but for `skipped` models.

    Every step is a look-up in the index of queued jobs, and whoever stops early pays for no more.
    `model` is `None` for a job that neither itself, its batch nor the worker names a model for.
    """
    for head in db.conn.execute(_SQL["heads"].sql):
        inherited = head["model"] or default
        own_models = () if loaded is None else (loaded, None) if inherited == loaded else (loaded,)
        group = (head["priority"], head["batch_id"])
        found = [db.conn.execute(FIRST_OF_MODEL, (*group, own)).fetchone() for own in own_models]
        rows = _allowed([row for row in found if row is not None], head, inherited, skipped)
        if not rows:
            names = {"priority": group[0], "batch_id": group[1]}
            found = db.conn.execute(_SQL["models"].sql, names).fetchall()
            rows = _allowed(found, head, inherited, skipped)
        # jobs without a model must not hide those of the same group that have one
        rows = [row for row in rows if row["model"] or inherited] or rows
        if not rows:
            continue
        first = min(rows, key=lambda row: (row["claim_key"], row["position"]))
        yield _Next(
            id=first["id"],
            batch_id=head["batch_id"],
            batch=head["batch"],
            model=first["model"] or inherited,
            inherited=first["model"] is None,
        )


def _allowed(
    rows: Sequence[sqlite3.Row], head: sqlite3.Row, inherited: str | None, skipped: SkippedModels
) -> list[sqlite3.Row]:
    """Return the rows whose model is not skipped in the batch of `head`."""
    batch_id = head["batch_id"]
    models = [row["model"] or inherited for row in rows]
    return [
        row
        for row, model in zip(rows, models, strict=True)
        if model is None or not skipped.holds(batch_id, model)
    ]
