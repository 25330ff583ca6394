"""A JSONL file as a stream of checked jobs; memory does not grow with the file."""

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import msgspec

from .errors import BadLine, InputError
from .record import JobLine
from .settings import Context
from .shapes import KNOWN_KEYS, BadField, shape
from .sound import flaw

BUILT_IN = Context()

MAX_ID_CHARS = 512
MAX_LINE_BYTES = 64 << 20
"""What is longer is no line of a job, and would not leave memory flat."""

_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class LineReader:
    """Reads the lines of one file as `JobLine` or `BadLine`, hashing what it read.

    `raw` is the line that the last one was read from. After the last line `sha256` is the hash of
    the whole file, `bytes_read` its size and `lines` the number of lines that were not blank.
    """

    def __init__(self, stream: BinaryIO, source: str, inherited: Context = BUILT_IN) -> None:
        """Take a file, what to call it, and what its lines inherit from the batch."""
        self.source = source
        self.bytes_read = 0
        self.lines = 0
        self.raw = b""
        self._stream = stream
        self._inherited = inherited
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The hash of everything read so far, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[JobLine | BadLine]:
        """Yield a job or a refusal for every line that is not blank.

        Raises `InputError` for a file with no lines at all, one that is not text, or one whose
        lines have no end.
        """
        read = partial(self._stream.readline, MAX_LINE_BYTES + 1)
        for number, line in enumerate(iter(read, b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise InputError(
                    f"{self.source}:{number}: longer than {MAX_LINE_BYTES >> 20} MiB; "
                    "one object a line is needed"
                )
            self._hash.update(line)
            self.bytes_read += len(line)
            self.raw = line
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                self._check_text(line)
            if line.isspace() or not line:
                continue
            self.lines += 1
            yield read_line(number, line, self._inherited)
        if not self.lines:
            raise InputError(f"{self.source}: empty, no line holds a job")

    def _check_text(self, first: bytes) -> None:
        """Refuse at once what is no text, instead of naming each of its lines."""
        if b"\0" in first or first.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise InputError(f"{self.source}: a binary file, not JSON lines")
        if not first.lstrip().startswith(b"{") and not _is_utf8(first):
            raise InputError(f"{self.source}: not text, so not JSON lines")
        if _ARRAY.match(first):
            raise InputError(
                f"{self.source}: a JSON array; one object a line is needed "
                "(`jq -c '.[]' FILE` prints it so)"
            )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_line(number: int, line: bytes, inherited: Context = BUILT_IN) -> JobLine | BadLine:
    """Decode one line; what is wrong with it is a value, never an exception.

    Its settings are laid over what is `inherited` from its batch, and have to go together with it.
    """
    try:
        if (reason := flaw(line.decode("utf-8"), KNOWN_KEYS)) is not None:
            return BadLine(number, reason)
        fields = _top_level.decode(line)
        shaped = shape(fields, inherited)
        custom_id = _custom_id(fields, number)
    except UnicodeDecodeError as error:
        byte = line[error.start]
        return BadLine(number, f"not UTF-8: byte 0x{byte:02x} at column {error.start + 1}")
    except msgspec.ValidationError as error:
        return BadLine(number, f"not a JSON object: {error}")
    except msgspec.DecodeError as error:
        return BadLine(number, f"not JSON: {str(error).removeprefix('JSON is malformed: ')}")
    except BadField as error:
        return BadLine(number, str(error))
    metadata = None
    if shaped.extra:
        pairs = (msgspec.json.encode(k) + b":" + bytes(v) for k, v in shaped.extra.items())
        metadata = msgspec.Raw(b"{" + b",".join(pairs) + b"}")
    return JobLine(number, custom_id, shaped.model, shaped.request, metadata)


def _custom_id(fields: dict[str, msgspec.Raw], number: int) -> str:
    """Return the line's own `custom_id`, or one made of its number."""
    raw = fields.get("custom_id")
    if raw is None:
        return f"line-{number}"
    try:
        custom_id = _text.decode(raw)
    except msgspec.DecodeError as error:
        raise BadField(f"custom_id: {error}") from None
    if not 0 < len(custom_id) <= MAX_ID_CHARS:
        raise BadField(f"custom_id: must have 1 to {MAX_ID_CHARS} characters")
    if _CONTROL.search(custom_id):
        raise BadField("custom_id: holds a control character")
    return custom_id
