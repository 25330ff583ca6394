"""The queue as the worker uses it: runs, claims, recording, and what was recorded."""

from mh_batch.store.connection import data_version
from mh_batch.store.counts import queue_counts
from mh_batch.store.selftests import last_selftest, record_selftest

from .cancel_retry import cancel_requests, requeue
from .claims import claim, next_model, release
from .history import read_history
from .recording import (
    crashes_on,
    finish,
    is_rescued,
    record,
    record_crash,
    record_crashes,
    rehearse,
    shared_crashes_on,
)
from .runs import allow_variance, finish_run, limit_rows, recover, set_run_model, start_run

__all__ = [
    "allow_variance",
    "cancel_requests",
    "claim",
    "crashes_on",
    "data_version",
    "finish",
    "finish_run",
    "is_rescued",
    "last_selftest",
    "limit_rows",
    "next_model",
    "queue_counts",
    "read_history",
    "record",
    "record_crash",
    "record_crashes",
    "record_selftest",
    "recover",
    "rehearse",
    "release",
    "requeue",
    "set_run_model",
    "shared_crashes_on",
    "start_run",
]
