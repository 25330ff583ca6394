"""What is fixed for a batch and a model when a job of them is claimed first."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import ModelChanged
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.settings import Settings, apply

_FROZEN = """
SELECT fingerprint, parallel, begun FROM batch_models WHERE batch_id = ? AND model = ?
"""
# an older version did not store the adapter
_FREEZE = """
INSERT INTO batch_models
    (batch_id, model, fingerprint, adapter, parallel, device, versions, defaults)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (batch_id, model) DO UPDATE SET
    adapter = coalesce(adapter, excluded.adapter),
    parallel = excluded.parallel,
    device = iif(begun, device, excluded.device),
    versions = iif(begun, versions, excluded.versions)
WHERE adapter IS NULL OR parallel != excluded.parallel OR NOT begun
"""

_OPEN = """
SELECT settings_given, json_extract(settings, '$.origin.defaults') FROM batches WHERE id = ?
"""
_DEFAULTS = "SELECT defaults FROM batch_models WHERE batch_id = ? AND model = ?"


class Frozen(msgspec.Struct, frozen=True):
    """What a batch began with on a model; `begun` says that an attempt was recorded."""

    fingerprint: str
    parallel: int
    begun: int

    def check(self, batch_id: int, batch: str, model: ModelInfo) -> None:
        """Raise `ModelChanged` if the batch began with other weights than those of `model`."""
        if self.fingerprint != model.fingerprint:
            raise ModelChanged(
                f"batch {batch_id} ({batch}) began with {model.name} of fingerprint "
                f"{self.fingerprint[:12]}, now it is {model.fingerprint[:12]}; bring the first "
                "weights back, or submit the file again as a new batch",
                batch_id,
            )

    def slots(self, offered: int) -> int:
        """Return in how many slots the batch goes on; without an attempt as many as `offered`."""
        return self.parallel if self.begun else offered


def frozen(db: Database, batch_id: int, model: str) -> Frozen | None:
    """Return what a batch began with on a model; `None` if none of its jobs was claimed."""
    row = db.conn.execute(_FROZEN, (batch_id, model)).fetchone()
    return None if row is None else Frozen(*row)


def freeze(db: Database, batch_id: int, model: ModelInfo, parallel: int) -> None:
    """Store weights, adapter, slots, device, versions and sampling defaults of a model.

    It is part of the caller's transaction. Once an attempt is recorded, device and versions stay
    those of the first; the defaults are those of the first claim.
    """
    versions = msgspec.json.encode(model.versions, order="sorted").decode()
    facts = (model.fingerprint, model.adapter, parallel, model.device, versions)
    values = (batch_id, model.name, *facts, _filling(db, batch_id, model))
    db.conn.execute(_FREEZE, values)


def _filling(db: Database, batch_id: int, model: ModelInfo) -> str | None:
    """Return the model's defaults that fill what the batch left open, as JSON; `None` for none."""
    given, defaults = db.conn.execute(_OPEN, (batch_id,)).fetchone()
    if given is None or defaults == "mh-batch":
        return None
    names = msgspec.json.decode(given, type=list[str])
    filling = {name: value for name, value in model.defaults.items() if name not in names}
    return msgspec.json.encode(filling).decode()


def filled(db: Database, batch_id: int, model: str, settings: Settings) -> Settings:
    """Return the settings of a batch with the defaults of a model that were frozen for it."""
    row = db.conn.execute(_DEFAULTS, (batch_id, model)).fetchone()
    return settings if row is None else filled_with(row[0], settings)


def filled_with(defaults: str | None, settings: Settings) -> Settings:
    """Return `settings` with frozen defaults, the JSON of `batch_models.defaults`."""
    values = {} if defaults is None else msgspec.json.decode(defaults, type=dict[str, int | float])
    return apply(settings, values) if values else settings
