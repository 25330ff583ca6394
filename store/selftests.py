"""Keeps the verdicts of self-tests, so that each is made once."""

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.selftest import SelftestKey, SelftestVerdict
from mh_batch.store.clock import now
from mh_batch.store.connection import immediate, snapshot

_RECORD = """
INSERT INTO selftests (
    device, versions, model_fingerprint, parallel, engine, at, model, passed, failed, layer, speeds,
    recommended
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LAST = """
SELECT passed, failed, layer, speeds, recommended FROM selftests
WHERE device = ? AND versions = ? AND model_fingerprint = ? AND parallel = ? AND engine = ?
ORDER BY id DESC
LIMIT 1
"""


def record_selftest(db: Database, key: SelftestKey, model: str, verdict: SelftestVerdict) -> None:
    """Record the verdict of a self-test; `model` is the name that the model was asked for by."""
    speeds = msgspec.json.encode(verdict.speeds).decode()
    found = (verdict.passed, verdict.failed, verdict.layer, speeds, verdict.recommended)
    with immediate(db):
        db.conn.execute(_RECORD, (*_values(key), now(), model, *found))


def last_selftest(db: Database, key: SelftestKey) -> SelftestVerdict | None:
    """Return the latest verdict for exactly this `key`; `None` if there is none."""
    with snapshot(db):
        row = db.conn.execute(_LAST, _values(key)).fetchone()
    if row is None:
        return None
    return SelftestVerdict(
        passed=bool(row["passed"]),
        failed=row["failed"],
        layer=row["layer"],
        speeds=msgspec.json.decode(row["speeds"], type=dict[int, float]),
        recommended=row["recommended"],
    )


def _values(key: SelftestKey) -> tuple[str | int, ...]:
    # sorted, so that equal versions are equal texts
    versions = msgspec.json.encode(key.versions, order="sorted").decode()
    return (key.device, versions, key.model_fingerprint, key.parallel, key.engine)
