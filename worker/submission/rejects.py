"""The file of bad lines, written whole or not at all."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from mh_batch.jobs.errors import BadLine, EnvironmentFault
from mh_batch.jobs.files import PartialFile


class Reject(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bad line: its number, why it was refused, and its raw text.

    A line that is not UTF-8 is in `base64` instead of `text`; one that is too long is in neither.
    """

    line: int
    reason: str
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, bad: BadLine, raw: bytes | None) -> Self:
        """Build a reject from a bad line and its raw text, without the line end."""
        if raw is None:
            return cls(bad.number, bad.reason)
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return cls(bad.number, bad.reason, text=raw.decode("utf-8"))
        except UnicodeDecodeError:
            return cls(bad.number, bad.reason, base64=base64.b64encode(raw).decode("ascii"))


def rejects_path(source: str) -> Path:
    """Return the file for the bad lines of `source`: beside it, or here for standard input."""
    return Path(f"{'stdin' if source == '-' else source.rstrip('/')}.rejected.jsonl")


class Rejects:
    """Writes bad lines to a temporary file that `keep` renames to `path`.

    Use it as a context manager: without `keep`, an earlier file stays as it was. With `path`
    `None` the lines are only counted. Raises `EnvironmentFault` if the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self._file: PartialFile | None = None

    def add(self, bad: BadLine, raw: bytes | None) -> None:
        """Write a bad line; `raw` is its text, `None` if it was too long."""
        self.count += 1
        if self.path is None:
            return
        with self._faults():
            if self._file is None:
                self._file = PartialFile(self.path)
            self._file.out.write(msgspec.json.encode(Reject.of(bad, raw)) + b"\n")

    def keep(self) -> None:
        """Sync and rename the file; there is none if no line was bad."""
        if self._file is not None:
            with self._faults():
                self._file.keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.discard()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentFault(f"{self.path}: {error.strerror or error}") from None
