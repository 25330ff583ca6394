"""Conversations of a Python program as a file of JSON lines."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import msgspec

from mh_batch.jobs.errors import InputError

Conversation = Mapping[str, Any] | str
"""The content of a line of an input file, in any of its shapes; a string is a `prompt`."""


def checked_iterable(given: Any, source: str) -> Iterable[Conversation]:
    """Return what is to be iterated over; a single mapping is one conversation.

    Raises `InputError` for what would yield its keys, or columns, or cannot be iterated over.
    """
    if isinstance(given, Mapping):
        splits = [str(key) for key, value in given.items() if hasattr(value, "column_names")]
        if splits:
            raise InputError(f"{source}: holds {', '.join(splits)}; submit one of them")
        return [given]
    kind = f"{type(given).__module__.partition('.')[0]}.{type(given).__name__}"
    if hasattr(type(given), "collect"):
        raise InputError(f"{source}: a {kind} has no rows yet; submit what its collect() returns")
    # a series has keys, too, and yields its values
    has_keys = hasattr(type(given), "keys") and not hasattr(type(given), "dtype")
    known = isinstance(given, Iterable) and not isinstance(given, bytes | bytearray)
    if has_keys or hasattr(type(given), "columns") or not known:
        raise InputError(
            f"{source}: a {kind} is no table that is known, and iterating over it yields no "
            "conversations; submit a list of dictionaries, a path, or a table of pandas, polars, "
            "pyarrow or datasets"
        )
    lines: Iterable[Conversation] = given
    return lines


@contextmanager
def as_lines(conversations: Iterable[Conversation], source: str) -> Iterator[BinaryIO]:
    """Open conversations as a file of JSON lines; raises `InputError` if one cannot be JSON."""
    with tempfile.TemporaryFile() as out:
        for number, item in enumerate(conversations, start=1):
            # of numpy, too, whose texts are none for an encoder
            line = {"prompt": str(item)} if isinstance(item, str) else item
            try:
                out.write(msgspec.json.encode(line) + b"\n")
            except (TypeError, ValueError, RecursionError) as error:
                where, reason = _culprit(line, "") or ("", str(error))
                place = f"{where}: " if where else ""
                raise InputError(f"{source}:{number}: {place}{reason}") from None
        out.seek(0)
        yield out


def _culprit(value: Any, path: str) -> tuple[str, str] | None:
    """Return the key of the first value that cannot be JSON, and why; `None` if there is none."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        inner: Iterable[tuple[str, Any]] = ()
        if isinstance(value, Mapping):
            inner = ((f"{path}.{key}" if path else str(key), item) for key, item in value.items())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            inner = ((f"{path}[{i}]", item) for i, item in enumerate(value))
        found = next((bad for key, item in inner if (bad := _culprit(item, key))), None)
        return found or (path, _reason(value, str(error)))
    return None


def _reason(value: Any, error: str) -> str:
    kind = type(value)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if name.startswith("builtins."):
        return f"cannot be JSON: {error}"
    for method in ("tolist", "isoformat", "item"):
        if hasattr(kind, method):
            return f"cannot be JSON: a {name}; use its {method}()"
    return f"cannot be JSON: a {name}"


def is_path(given: Any) -> bool:
    """Whether something names a file."""
    return isinstance(given, str | os.PathLike)
