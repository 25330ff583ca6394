"""What is fixed for a batch and a model when a job of them is claimed first."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import ModelChanged
from mh_batch.jobs.generation import ModelInfo

_FROZEN = """
SELECT fingerprint, parallel, begun FROM batch_models WHERE batch_id = ? AND model = ?
"""
# an older version did not store the adapter
_FREEZE = """
INSERT INTO batch_models (batch_id, model, fingerprint, adapter, parallel, device, versions)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (batch_id, model) DO UPDATE SET
    adapter = coalesce(adapter, excluded.adapter),
    parallel = excluded.parallel,
    device = iif(begun, device, excluded.device),
    versions = iif(begun, versions, excluded.versions)
WHERE adapter IS NULL OR parallel != excluded.parallel OR NOT begun
"""


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
    """Store weights, adapter, slots, device and versions; part of the caller's transaction.

    Once an attempt is recorded, device and versions stay those of the first.
    """
    versions = msgspec.json.encode(model.versions, order="sorted").decode()
    facts = (model.fingerprint, model.adapter, parallel, model.device, versions)
    db.conn.execute(_FREEZE, (batch_id, model.name, *facts))
