"""The queue as the worker uses it: runs, claims, what was recorded, and its way back."""

from .claims import claim, next_model
from .history import recorded
from .recording import crashes_on, finish, record, record_crash, release
from .reports import queue_counts
from .runs import finish_run, recover, set_run_model, start_run

__all__ = [
    "claim",
    "crashes_on",
    "finish",
    "finish_run",
    "next_model",
    "queue_counts",
    "record",
    "record_crash",
    "recorded",
    "recover",
    "release",
    "set_run_model",
    "start_run",
]
