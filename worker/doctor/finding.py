"""What the doctor examines, and what its checks find."""

from enum import StrEnum
from pathlib import Path

import msgspec

from mh_batch.jobs.errors import MhBatchError


class Severity(StrEnum):
    """How serious a finding is: after a warning a drain may fail, after a failure it does."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(msgspec.Struct, frozen=True):
    """What a check found about `subject`; `cure` says what to do, `None` if nothing."""

    subject: str
    verdict: Severity
    text: str
    cure: str | None = None


class Site(msgspec.Struct, frozen=True):
    """What to examine: the database, the log folder, the model (`None` if none is named).

    `preload_blas` is the BLAS of the model process, `None` for MLX's own.
    """

    db: Path
    logs: Path
    model: str | None
    preload_blas: str | None = None


def ok(subject: str, text: str) -> Finding:
    """Build a finding without a fault."""
    return Finding(subject, Severity.OK, text)


def warning(subject: str, text: str, cure: str) -> Finding:
    """Build a finding about what may go wrong."""
    return Finding(subject, Severity.WARNING, text, cure)


def failure(subject: str, text: str, cure: str) -> Finding:
    """Build a finding about what will go wrong."""
    return Finding(subject, Severity.FAILURE, text, cure)


def refused(subject: str, error: MhBatchError, cure: str) -> Finding:
    """Build a failure from an error; `cure` is for errors whose text has none."""
    text, _, own_cure = str(error).partition("; ")
    return failure(subject, text, own_cure or cure)
