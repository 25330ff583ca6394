"""The JSON schemas of the setting `accept`, checked before anything runs."""

from functools import lru_cache
from typing import Any

import msgspec

from mh_batch.jobs.answers.accept_rules import AcceptRules
from mh_batch.jobs.errors import BadLine, SettingsError
from mh_batch.jobs.record import JobLine

MAX_REMEMBERED_BYTES = 1 << 16
"""Longer schemas are checked in every line, not cached: they would fill memory."""


def check_accept(rules: AcceptRules | None) -> None:
    """Raise `SettingsError` for a schema of the batch that is none."""
    schema = None if rules is None else rules.json_schema
    if schema is not None:
        fault = _fault(msgspec.json.encode(schema))
        if fault is not None:
            raise SettingsError(fault)


def check_line(line: JobLine) -> JobLine | BadLine:
    """Return a line, or a refusal if the schema that it sets is none."""
    accept: dict[str, Any] | None = line.request.settings.get("accept")
    schema = None if accept is None else accept.get("json_schema")
    fault = None if schema is None else _fault(msgspec.json.encode(schema))
    return line if fault is None else BadLine(line.number, fault)


def _fault(encoded: bytes) -> str | None:
    return _found(encoded) if len(encoded) > MAX_REMEMBERED_BYTES else _remembered(encoded)


# most lines of a file have the same schema
@lru_cache(maxsize=64)
def _remembered(encoded: bytes) -> str | None:
    return _found(encoded)


def _found(encoded: bytes) -> str | None:
    # late: other submits need no library for it
    from mh_batch.worker.acceptance.rules import check_schema

    try:
        check_schema(msgspec.json.decode(encoded))
    except SettingsError as error:
        return str(error)
    return None
