"""Files, batches and lists as OpenAI's interface has them; pure functions of what is stored."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import msgspec

from mh_batch.jobs.errors import BadLines
from mh_batch.jobs.status import OPEN, Status
from mh_batch.store.server.batches import ApiBatch, BatchRef
from mh_batch.store.server.files import StoredFile

Object = dict[str, Any]

MOST_ERRORS = 100
MOST_CHARS = 500
"""How much a batch says of what is wrong with its file: lists of batches have it too."""

_FILE_ID = re.compile(r"file-([1-9][0-9]{0,17})")
_SOURCE_ID = re.compile(r"file-source-([1-9][0-9]{0,17})")
_BATCH_ID = re.compile(r"batch_(api_)?([1-9][0-9]{0,17})")
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_FIELD = re.compile(r"([A-Za-z_][\w.\[\]]*): ")


class BatchStatus(StrEnum):
    """The states of a batch."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


CANCELLABLE = frozenset({BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING})
ENDED = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED, BatchStatus.FAILED}
)


def batch_status(batch: ApiBatch) -> BatchStatus:
    """Return the state of a batch.

    One whose jobs had all ended before it was cancelled or expired is completed.
    """
    if batch.failed_at is not None:
        return BatchStatus.FAILED
    if batch.batch_id is None:
        return BatchStatus.VALIDATING if batch.cancelled_at is None else BatchStatus.CANCELLED
    if batch.count(*OPEN):
        ending = batch.cancelling_at is not None or batch.expired_at is not None
        return BatchStatus.CANCELLING if ending else BatchStatus.IN_PROGRESS
    if batch.ended_at is None:
        return BatchStatus.FINALIZING
    cancelled = batch.count(Status.CANCELLED)
    if cancelled and batch.expired_at is not None:
        return BatchStatus.EXPIRED
    whole = cancelled == sum(batch.counts.values())
    if cancelled and (batch.cancelling_at is not None or whole):
        return BatchStatus.CANCELLED
    return BatchStatus.COMPLETED


def batch_object(batch: ApiBatch) -> Object:
    """Return a batch as clients read it; `mh_batch` is our addition to OpenAI's keys."""
    status = batch_status(batch)
    ended_at = batch.cancelled_at or batch.ended_at
    finalized = status in ENDED and batch.ended_at is not None
    return {
        "id": batch_id(batch.ref),
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": _errors(batch),
        "input_file_id": _input_file(batch),
        # the value that every client knows; one of `submit` has no `expires_at`
        "completion_window": batch.completion_window or "24h",
        "status": status,
        "output_file_id": file_id(batch.output_file) if finalized else None,
        "error_file_id": file_id(batch.error_file) if finalized else None,
        "created_at": unix(batch.created_at),
        "in_progress_at": unix(batch.in_progress_at),
        "expires_at": unix(batch.expires_at),
        "finalizing_at": unix(batch.ended_at),
        "completed_at": unix(ended_at) if status is BatchStatus.COMPLETED else None,
        "failed_at": unix(batch.failed_at),
        "expired_at": unix(ended_at) if status is BatchStatus.EXPIRED else None,
        "cancelling_at": unix(batch.cancelling_at or batch.cancelled_at),
        "cancelled_at": unix(ended_at) if status is BatchStatus.CANCELLED else None,
        "request_counts": _counts(batch),
        "metadata": None if batch.metadata is None else msgspec.Raw(batch.metadata.encode()),
        "mh_batch": {"batch": batch.batch_id, "name": batch.name},
    }


def file_object(file: StoredFile) -> Object:
    """Return a file as clients read it."""
    return {
        "id": file_id(file.id),
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
    }


def source_object(batch: ApiBatch) -> Object:
    """Return the file that somebody submitted by the command line; its content is not kept."""
    source = batch.source or ""
    return {
        "id": f"file-source-{batch.ref.number}",
        "object": "file",
        "bytes": 0,
        "created_at": unix(batch.created_at),
        "filename": PurePosixPath(source).name or source,
        "purpose": "batch",
        "status": "processed",
        "expires_at": None,
    }


def page_object(objects: Sequence[Object], more: bool) -> Object:
    """Return a page of a list."""
    ends = {"first_id": objects[0]["id"], "last_id": objects[-1]["id"]} if objects else {}
    none = {"first_id": None, "last_id": None}
    return {"object": "list", "data": objects, **none, **ends, "has_more": more}


def line_errors(error: BadLines) -> list[Object]:
    """Return the first bad lines of a file as the errors of its batch."""
    shown = error.lines[:MOST_ERRORS]
    errors = [error_entry(_code(bad.reason), bad.reason, bad.number) for bad in shown]
    if error.total > len(errors):
        message = f"and {error.total - len(errors):,} more bad lines"
        errors.append(error_entry("too_many_errors", message))
    return errors


def error_entry(code: str, message: str, line: int | None = None) -> Object:
    """Return one error of a batch; `line` is a line of its file, `None` for all of it."""
    field = _FIELD.match(message) if line is not None else None
    param = field[1] if field is not None else None
    short = message if len(message) <= MOST_CHARS else f"{message[:MOST_CHARS]}…"
    return {"code": code, "message": short, "line": line, "param": param}


def file_id(number: int | None) -> str | None:
    """Return the id of a file."""
    return None if number is None else f"file-{number}"


def batch_id(ref: BatchRef) -> str:
    """Return the id of a batch; one of `submit` has the number of the command line in it."""
    return f"batch_{'api_' if ref.api else ''}{ref.number}"


def parse_file_id(text: str) -> int | None:
    """Return the number of a file, `None` if the text is no id of one."""
    found = _FILE_ID.fullmatch(text)
    return int(found[1]) if found else None


def parse_source_id(text: str) -> BatchRef | None:
    """Return the batch of the command line whose source has this id, `None` for no such id."""
    found = _SOURCE_ID.fullmatch(text)
    return BatchRef(False, int(found[1])) if found else None


def parse_batch_id(text: str) -> BatchRef | None:
    """Return which batch has this id, `None` if the text is no id of one."""
    found = _BATCH_ID.fullmatch(text)
    return BatchRef(found[1] is not None, int(found[2])) if found else None


def parse_window(text: str) -> timedelta | None:
    """Return how long `24h`, `30m` or `7d` is, `None` for anything else."""
    found = _WINDOW.fullmatch(text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None


def unix(timestamp: str | None) -> int | None:
    """Return a stored time as clients read it."""
    return None if timestamp is None else int(datetime.fromisoformat(timestamp).timestamp())


def _input_file(batch: ApiBatch) -> str | None:
    return file_id(batch.file_id) if batch.ref.api else f"file-source-{batch.ref.number}"


def _errors(batch: ApiBatch) -> Object | None:
    if batch.errors is None:
        return None
    return {"object": "list", "data": msgspec.Raw(batch.errors.encode())}


def _counts(batch: ApiBatch) -> Object:
    """Return how many jobs have an answer, and how many have none: those of the error file."""
    return {
        "total": sum(batch.counts.values()),
        "completed": batch.count(Status.DONE, Status.INCOMPLETE),
        "failed": batch.count(Status.FAILED, Status.CANCELLED),
    }


def _code(reason: str) -> str:
    if reason.startswith(("not JSON", "not UTF-8")):
        return "invalid_json_line"
    if reason.startswith("custom_id") and "already" in reason:
        return "duplicate_custom_id"
    return "model_not_found" if "model: " in reason else "invalid_request"
