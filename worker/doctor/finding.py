"""What a check is asked about, and what it says."""

from enum import StrEnum
from pathlib import Path

import msgspec

from mh_batch.jobs.errors import MhBatchError


class Verdict(StrEnum):
    """How serious a finding is: a warning may spoil a night, a failure does."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(msgspec.Struct, frozen=True):
    """What a check found about `subject`; `cure` says what to do, `None` where all is well."""

    subject: str
    verdict: Verdict
    text: str
    cure: str | None = None


class Site(msgspec.Struct, frozen=True):
    """What is examined: a database, the folder of the logs, a model (`None`: none is named).

    `preload_blas` is the BLAS that the model process is to call, `None` for MLX's own.
    """

    db: Path
    logs: Path
    model: str | None
    preload_blas: str | None = None


def ok(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(subject, Verdict.OK, text)


def warning(subject: str, text: str, cure: str) -> Finding:
    """Return that something may go wrong."""
    return Finding(subject, Verdict.WARNING, text, cure)


def failure(subject: str, text: str, cure: str) -> Finding:
    """Return that something will go wrong."""
    return Finding(subject, Verdict.FAILURE, text, cure)


def refused(subject: str, error: MhBatchError, cure: str) -> Finding:
    """Return an error of ours as a failure; `cure` serves where its text brings none."""
    text, _, own_cure = str(error).partition("; ")
    return failure(subject, text, own_cure or cure)
