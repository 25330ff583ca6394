"""The lines of a JSON-lines file as rows."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from mh_batch.jobs.jsonl.lines import check_text

from .rows import Row

_SKIP_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class JsonRows:
    """Reads lines without decoding them; `sha256` is the hash of what was read."""

    columns = None

    def __init__(self, stream: BinaryIO, source: str, max_row_bytes: int) -> None:
        self.bytes_read = 0
        self._stream = stream
        self._source = source
        self._max_bytes = max_row_bytes
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The hash of everything read so far, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        """Yield a row for every line that is not blank."""
        number = 0
        while line := self._read(self._max_bytes + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
                check_text(self._source, line)
            if len(line) > self._max_bytes:
                yield Row(number, fault=self._skip())
            elif line and not line.isspace():
                yield Row(number, line=line)

    def _read(self, most: int) -> bytes:
        line = self._stream.readline(most)
        self._hash.update(line)
        self.bytes_read += len(line)
        return line

    def _skip(self) -> str:
        while (rest := self._read(_SKIP_BYTES)) and not rest.endswith(b"\n"):
            pass
        return f"longer than {self._max_bytes >> 20} MiB; --max-line-mib takes longer ones"
