"""A verdict of a self-test is found again for exactly what it was made for."""

import sqlite3
from typing import Any

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from mh_batch.jobs.selftest import SelftestKey, SelftestVerdict
from mh_batch.store import queue

KEY = SelftestKey("Apple M3 Max, 40 cores", {"mlx": "1.0", "blas": "x"}, "f" * 64, 8, "1")
PASSED = SelftestVerdict(True, speeds={1: 97.0, 2: 150.5, 16: 300.25}, recommended=16)
FAILED = SelftestVerdict(False, "row 0 differs beside other neighbours", layer=3)


def test_without_a_test_there_is_no_verdict(db: Database) -> None:
    assert queue.last_selftest(db, KEY) is None


@pytest.mark.parametrize("verdict", [PASSED, FAILED], ids=["passed", "failed"])
def test_a_verdict_comes_back_as_it_was(db: Database, verdict: SelftestVerdict) -> None:
    queue.record_selftest(db, KEY, "demo", verdict)
    assert queue.last_selftest(db, KEY) == verdict
    (row,) = db["selftests"].rows
    assert (row["model"], row["passed"], row["failed"]) == ("demo", verdict.passed, verdict.failed)


def test_the_latest_verdict_holds(db: Database) -> None:
    for verdict in (PASSED, FAILED):
        queue.record_selftest(db, KEY, "demo", verdict)
    assert queue.last_selftest(db, KEY) == FAILED
    assert db["selftests"].count == 2


@pytest.mark.parametrize(
    "change",
    [
        {"device": "Apple M3 Max, 30 cores"},
        {"versions": {"mlx": "1.1", "blas": "x"}},
        {"versions": {"mlx": "1.0"}},
        {"model_fingerprint": "e" * 64},
        {"parallel": 4},
        {"engine": "2"},
    ],
    ids=str,
)
def test_a_verdict_holds_for_nothing_else(db: Database, change: dict[str, Any]) -> None:
    queue.record_selftest(db, KEY, "demo", PASSED)
    assert queue.last_selftest(db, replace(KEY, **change)) is None


def test_the_order_of_the_versions_is_no_difference(db: Database) -> None:
    queue.record_selftest(db, KEY, "demo", PASSED)
    assert queue.last_selftest(db, replace(KEY, versions={"blas": "x", "mlx": "1.0"})) == PASSED


def test_a_failure_without_a_reason_is_not_stored(db: Database) -> None:
    for verdict in (SelftestVerdict(False), SelftestVerdict(True, "something")):
        with pytest.raises(sqlite3.IntegrityError):
            queue.record_selftest(db, KEY, "demo", verdict)
