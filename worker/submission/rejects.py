"""The lines that did not become jobs, in a file that appears whole or not at all."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from mh_batch.jobs.errors import BadLine, EnvironmentFault
from mh_batch.worker.files import PartialFile


class Reject(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the file: its number, why it was refused, and the line as it was.

    `base64` has what is no UTF-8 in the place of `text`; a line that is too long has neither.
    """

    line: int
    reason: str
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, bad: BadLine, raw: bytes | None) -> Self:
        """Keep a refused line; its line end is not part of it."""
        if raw is None:
            return cls(bad.number, bad.reason)
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return cls(bad.number, bad.reason, text=raw.decode("utf-8"))
        except UnicodeDecodeError:
            return cls(bad.number, bad.reason, base64=base64.b64encode(raw).decode("ascii"))


def rejects_path(source: str) -> Path:
    """Return where the refused lines of `source` go: beside it, or here for standard input."""
    return Path("stdin.rejected.jsonl" if source == "-" else f"{source}.rejected.jsonl")


class Rejects:
    """Refused lines, written beside their final place until `keep` puts them there.

    Use it as a context manager: without `keep`, nothing is left and a former file is as it was.
    Raises `EnvironmentFault` where the folder or the disk does not take it. With `path` `None`
    nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self._file: PartialFile | None = None

    def add(self, bad: BadLine, raw: bytes | None) -> None:
        """Write one refused line, without itself for `None`."""
        self.count += 1
        if self.path is None:
            return
        with self._faults():
            if self._file is None:
                self._file = PartialFile(self.path)
            self._file.out.write(msgspec.json.encode(Reject.of(bad, raw)) + b"\n")

    def keep(self) -> None:
        """Put the file in its place, on disk; none if no line was refused."""
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
