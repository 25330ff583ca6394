"""The file of `--schema`: a JSON schema that every answer must have."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mh_batch.jobs.answers.forms import MAX_NAME_CHARS
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.jsonl.json_checks import find_error

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def read_schema(path: Path) -> dict[str, Any]:
    """Return the `response_format` of a file that holds a JSON schema.

    Its name is the schema's `title`, else that of the file. Raises `InputError` for a file that
    cannot be read, or holds something else.
    """
    try:
        text = path.read_text("utf-8")
        schema = json.loads(text)
    except OSError as error:
        raise InputError(f"--schema {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--schema {path}: not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise InputError(f"--schema {path}: a JSON schema is an object")
    if (reason := find_error(text, frozenset(schema))) is not None:
        raise InputError(f"--schema {path}: {reason}")
    return schema_form(schema, path.stem)


def schema_form(schema: Mapping[str, Any], otherwise: str = "") -> dict[str, Any]:
    """Return the `response_format` of a JSON schema; its name is the `title`, or `otherwise`."""
    title = schema.get("title")
    name = _name(title if isinstance(title, str) else "") or _name(otherwise) or "answer"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def _name(text: str) -> str:
    """Return a text as the name of a form; empty if none of it can be one."""
    return _NO_NAME.sub("_", text).strip("_")[:MAX_NAME_CHARS]
