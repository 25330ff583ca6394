"""Whether a file is in the database already, and what would differ if it were submitted again."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import AlreadySubmitted, StoreUnusable
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import GROUPS, MODEL_DEFAULTS, Settings

_ANY = "SELECT 1 FROM batches WHERE state = 'ready' AND source_sha256 IS NOT NULL LIMIT 1"
_SAME_FILE = """
SELECT id, name, submitted_at, model, settings, settings_given,
    EXISTS (
        SELECT 1 FROM jobs
        WHERE batch_id = batches.id AND model IS NOT NULL AND model IS NOT batches.model
    ) AS own_models
FROM batches
WHERE source_sha256 = ? AND state = 'ready'
ORDER BY id DESC
"""


class EarlierBatch(msgspec.Struct, frozen=True):
    """A batch of the same file; `model` is for jobs that name none, `None` if not yet chosen.

    `own_models` says that some jobs name another one.
    """

    id: int
    name: str
    submitted_at: str
    model: str | None
    settings: Settings
    own_models: bool
    given: tuple[str, ...] | None

    def diff(self, batch: NewBatch) -> list[str]:
        """Return what `batch` would do differently, such as `temperature 1.0, now 0.5`.

        A model that only one of the two names is no difference, nor is the order of the jobs.
        """
        found = []
        if None not in (self.model, batch.model) and self.model != batch.model:
            found.append(f"model {self.model}, now {batch.model}")
        if batch.override_model and self.own_models:
            found.append(f"models that lines name, now {batch.model} for all")
        # of a batch of an older version nobody knows what was given
        known = self.given is not None and batch.given is not None
        before = _flat(self.settings, self.given if known else None)
        now = _flat(batch.settings, batch.given if known else None)
        changed = [name for name in before if before[name] != now[name]]
        return found + [f"{name} {before[name]}, now {now[name]}" for name in changed]


def any_batch(db: Database) -> bool:
    """Whether there is any batch to compare a file with."""
    return db.conn.execute(_ANY).fetchone() is not None


def check_resubmission(db: Database, source_sha256: str, batch: NewBatch) -> None:
    """Raise `AlreadySubmitted` if a batch was made of a file with this hash."""
    earlier = _batches_of(db, source_sha256)
    if not earlier:
        return
    latest = earlier[0]
    changed = latest.diff(batch)
    settings = f" with other settings ({'; '.join(changed)})" if changed else ""
    raise AlreadySubmitted(
        f"{batch.source}: already submitted as batch {latest.id} ({latest.name}) at "
        f"{latest.submitted_at[:16].replace('T', ' ')}{settings}; --again submits it once more",
        next((found.id for found in earlier if not found.diff(batch)), None),
    )


def _batches_of(db: Database, source_sha256: str) -> list[EarlierBatch]:
    """Return the batches made of a file with this hash, latest first."""
    try:
        return [
            EarlierBatch(
                id=row["id"],
                name=row["name"],
                submitted_at=row["submitted_at"],
                model=row["model"],
                settings=msgspec.json.decode(row["settings"], type=Settings),
                own_models=bool(row["own_models"]),
                given=_names(row["settings_given"]),
            )
            for row in db.conn.execute(_SAME_FILE, (source_sha256,)).fetchall()
        ]
    except msgspec.DecodeError as error:
        raise StoreUnusable(
            f"a batch of the same file has settings of another version of the program: {error}; "
            "upgrade, or submit with --again"
        ) from None


def _flat(settings: Settings, given: tuple[str, ...] | None) -> dict[str, object]:
    """Return the settings by name, with a word for those left to the model.

    `None` as the names that were `given` leaves nothing to it.
    """
    values = {name: getattr(getattr(settings, group), name) for name, group in GROUPS.items()}
    if given is not None and settings.origin.defaults == "model":
        values |= {name: "left to the model" for name in MODEL_DEFAULTS if name not in given}
    return {**values, "seed": settings.seed}


def _names(stored: str | None) -> tuple[str, ...] | None:
    return None if stored is None else msgspec.json.decode(stored, type=tuple[str, ...])
