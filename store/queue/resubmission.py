"""Which batches hold the lines of a file already."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import StoreUnusable
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import GROUPS, Settings

_ANY = "SELECT 1 FROM batches WHERE state = 'ready' AND source_sha256 IS NOT NULL LIMIT 1"
_KNOWN = """
SELECT id, name, submitted_at, model, settings,
    EXISTS (
        SELECT 1 FROM jobs
        WHERE batch_id = batches.id AND model IS NOT NULL AND model IS NOT batches.model
    ) AS own_models
FROM batches
WHERE source_sha256 = ? AND state = 'ready'
ORDER BY id DESC
"""


class KnownBatch(msgspec.Struct, frozen=True):
    """A batch in the database; `model` is that of jobs that name none, `None` if still open.

    `own_models` says that some jobs have another one.
    """

    id: int
    name: str
    submitted_at: str
    model: str | None
    settings: Settings
    own_models: bool

    def differences(self, batch: NewBatch) -> list[str]:
        """Return what `batch` would do otherwise, such as `temperature 1.0, now 0.5`.

        A model that is named on one side only makes no difference, nor does what decides about
        the order alone.
        """
        found = []
        if None not in (self.model, batch.model) and self.model != batch.model:
            found.append(f"model {self.model}, now {batch.model}")
        if batch.override_model and self.own_models:
            found.append(f"models that lines name, now {batch.model} for all")
        before, now = _flat(self.settings), _flat(batch.settings)
        changed = [name for name in before if before[name] != now[name]]
        return found + [f"{name} {before[name]}, now {now[name]}" for name in changed]


def any_known(db: Database) -> bool:
    """Tell whether there is any batch to know a file by."""
    return db.conn.execute(_ANY).fetchone() is not None


def known_batches(db: Database, source_sha256: str) -> list[KnownBatch]:
    """Return the batches made of a file with these bytes, latest first."""
    try:
        return [
            KnownBatch(
                id=row["id"],
                name=row["name"],
                submitted_at=row["submitted_at"],
                model=row["model"],
                settings=msgspec.json.decode(row["settings"], type=Settings),
                own_models=bool(row["own_models"]),
            )
            for row in db.conn.execute(_KNOWN, (source_sha256,)).fetchall()
        ]
    except msgspec.DecodeError as error:
        raise StoreUnusable(
            f"a batch of the same file has settings of another version of the program: {error}; "
            "upgrade, or submit with --again (in Python: again=True)"
        ) from None


def _flat(settings: Settings) -> dict[str, object]:
    values = {name: getattr(getattr(settings, group), name) for name, group in GROUPS.items()}
    return {**values, "seed": settings.seed}
