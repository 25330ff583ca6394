"""Unexpected errors: whether they concern one job, or the store or the machine."""

import os
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mh_batch.jobs.errors import (
    EnvironmentFault,
    InternalError,
    JobError,
    Stage,
    describe_error,
    storable,
)
from mh_batch.jobs.files import FILE_MODE
from mh_batch.jobs.record import ClaimedJob
from mh_batch.store.clock import now

# SQLite's errors about values; its other errors are about the file.
_OF_VALUES = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


def is_job_fault(error: Exception) -> bool:
    """Whether an unexpected error concerns the current job, not the store or the machine."""
    if isinstance(error, sqlite3.Error):
        return isinstance(error, _OF_VALUES)
    return not isinstance(error, EnvironmentFault | OSError)


@contextmanager
def at_stage(stage: Stage) -> Iterator[None]:
    """Turn an unexpected error of the block that concerns its job into an `InternalError`.

    Other errors, and every `JobError`, are raised unchanged.
    """
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        if not is_job_fault(error):
            raise
        raise InternalError(describe_error(error), stage) from error


def format_error(error: JobError) -> str:
    """Return the text for the column `jobs.error`."""
    if isinstance(error, InternalError):
        return f"{error.stage}: {error}; the traceback is in worker.log"
    return storable(str(error))


def log_fault(log_path: Path, job: ClaimedJob, error: JobError) -> None:
    """Append a job's error to the worker's log, with the traceback if it was raised here.

    For an error in the model process the traceback is in the log already.
    """
    cause = error.__cause__
    trace = "".join(traceback.format_exception(cause)) if cause is not None else ""
    line = f"mh-batch: {now()} job {job.id} ({job.custom_id}) failed: {format_error(error)}\n"
    # a log that cannot be written must not keep the job from being ended
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(log_path, flags, FILE_MODE), "ab") as log:
            log.write((trace + line).encode("utf-8", "backslashreplace"))
