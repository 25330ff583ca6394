"""A JSONL file as a stream of checked jobs; memory does not grow with the file."""

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from mh_batch.jobs.errors import BadLine, InputError
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import MAX_LINE_MIB

from . import long_lines
from .fields import KNOWN_KEYS, BadField, NoShape
from .ids import CONTROL, MAX_ID_CHARS, IdKey
from .json_checks import find_error
from .line_settings import BUILT_IN, Inherited
from .shapes import NO_DEFAULTS, LineDefaults, shape

MAX_SKIPPED_BYTES = 1 << 30
"""After how many more bytes a line counts as endless."""

_SKIP_BYTES = 1 << 20
_MAX_REASON_CHARS = 1000

_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_ARRAY = re.compile(rb"\s*\[\s*(?:\{|$)")


class LineReader:
    """Reads the lines of one file as `JobLine` or `BadLine`, and hashes them.

    After the last line `sha256` is the hash of the whole file, `bytes_read` its size and `lines`
    the number of lines that were not blank.
    """

    def __init__(
        self,
        stream: BinaryIO,
        source: str,
        inherited: Inherited = BUILT_IN,
        max_line_bytes: int = MAX_LINE_MIB << 20,
        defaults: LineDefaults = NO_DEFAULTS,
    ) -> None:
        """Take a file, its name, the settings that its lines inherit, and the longest line.

        `defaults` are for lines that do not name them.
        """
        self.source = source
        self.bytes_read = 0
        self.lines = 0
        self._stream = stream
        self._inherited = inherited
        self._defaults = defaults
        self._ids = IdKey()
        self._max_line_bytes = max_line_bytes
        self._raw: bytes | None = None
        self._hash = hashlib.sha256()

    def take_raw(self) -> bytes | None:
        """Return the bytes of the latest line and let go of them; `None` for one beyond the limit.

        They are held until they are taken or the next line is read.
        """
        raw, self._raw = self._raw, None
        return raw

    @property
    def sha256(self) -> str:
        """The hash of everything read so far, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[JobLine | BadLine]:
        """Yield a job or a refusal for every line that is not blank.

        Raises `InputError` for a file without lines, one that is not text, or one with an endless
        line.
        """
        number = 0
        while self._read():
            number += 1
            if number == 1:
                check_text(self.source, self._line(number))
            if not self._is_blank(number):
                self.lines += 1
                # no variable holds the line: it would stay in memory while the next is read
                yield self._job_of(number)
        if not self.lines:
            raise InputError(f"{self.source}: empty, no line holds a job")

    def _read(self) -> bool:
        """Read the next line, up to the limit; return whether there is one."""
        self._raw = None
        self._raw = self._stream.readline(self._max_line_bytes + 1)
        self._take(self._raw)
        return bool(self._raw)

    def _take(self, block: bytes) -> None:
        self._hash.update(block)
        self.bytes_read += len(block)

    def _line(self, number: int) -> bytes:
        """Return the line that was read, without the byte order mark that some files begin with."""
        raw = self._raw or b""
        return raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw

    def _is_blank(self, number: int) -> bool:
        line = self._line(number)
        return not line or line.isspace()

    def _job_of(self, number: int) -> JobLine | BadLine:
        """Return the line as a job, or a refusal; skip the rest of a line that is too long."""
        line = self._line(number)
        if len(line) <= self._max_line_bytes:
            return read_line(number, line, self._inherited, self._defaults, self._ids)
        self._raw = None
        end, skipped = line, 0
        while end and not end.endswith(b"\n"):
            end = self._stream.readline(_SKIP_BYTES)
            self._take(end)
            skipped += len(end)
            if skipped > MAX_SKIPPED_BYTES:
                raise InputError(f"{self.source}:{number}: a line without end")
        most = self._max_line_bytes >> 20
        return BadLine(number, f"longer than {most} MiB; --max-line-mib takes longer ones")


def check_text(source: str, first: bytes) -> None:
    """Refuse a file that is not text by its first line, instead of naming each of its lines."""
    if b"\0" in first or first.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise InputError(f"{source}: a binary file, not JSON lines")
    if not first.lstrip().startswith(b"{") and not _is_utf8(first):
        raise InputError(f"{source}: not text, so not JSON lines")
    if _ARRAY.match(first):
        raise InputError(
            f"{source}: a JSON array; one object a line is needed (`jq -c '.[]' FILE` prints it so)"
        )


def line_fields(line: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the fields of a line; `None` for one that `read_line` refuses before it sees them."""
    try:
        return _top_level.decode(line) if _find_error(line) is None else None
    except (UnicodeDecodeError, msgspec.DecodeError):
        return None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_line(
    number: int,
    line: bytes,
    inherited: Inherited = BUILT_IN,
    defaults: LineDefaults = NO_DEFAULTS,
    ids: IdKey | None = None,
) -> JobLine | BadLine:
    """Decode one line; an error in it is returned as `BadLine`, never raised.

    Its settings must be compatible with what is `inherited` from its batch. `ids` finds the id
    that its file gives it, `None` for none.
    """
    try:
        if (reason := _find_error(line)) is not None:
            return _bad(number, reason)
        fields = _top_level.decode(line)
        shaped = shape(fields, inherited, defaults)
        custom_id = _custom_id(fields, number)
    except UnicodeDecodeError as error:
        byte = line[error.start]
        return BadLine(number, f"not UTF-8: byte 0x{byte:02x} at column {error.start + 1}")
    except msgspec.ValidationError as error:
        return BadLine(number, f"not a JSON object: {error}")
    except msgspec.DecodeError as error:
        return BadLine(number, f"not JSON: {str(error).removeprefix('JSON is malformed: ')}")
    except NoShape as error:
        return BadLine(number, str(error), error.keys)
    except BadField as error:
        return _bad(number, str(error))
    metadata = _joined(shaped.extra) if shaped.extra else None
    own_id = ids.of(fields) if ids is not None else None
    return JobLine(number, custom_id, shaped.model, shaped.request, metadata, own_id)


def _find_error(line: bytes) -> str | None:
    if len(line) >= long_lines.LARGE:
        return long_lines.find_error(line, KNOWN_KEYS)
    return find_error(line.decode("utf-8"), KNOWN_KEYS)


def _bad(number: int, reason: str) -> BadLine:
    """Return a refusal, cut to a bounded length: it may quote the line."""
    cut = reason if len(reason) <= _MAX_REASON_CHARS else f"{reason[:_MAX_REASON_CHARS]}…"
    return BadLine(number, cut)


def _joined(members: dict[str, msgspec.Raw]) -> msgspec.Raw:
    """Return a JSON object of these members, each as it was written."""
    parts: list[bytes | msgspec.Raw] = []
    for key, raw in members.items():
        parts += [b"," if parts else b"{", msgspec.json.encode(key), b":", raw]
    return msgspec.Raw(b"".join([*parts, b"}"]))


def _custom_id(fields: dict[str, msgspec.Raw], number: int) -> str:
    """Return the line's own `custom_id`, or one made from its number."""
    raw = fields.get("custom_id")
    if raw is None:
        return f"line-{number}"
    try:
        custom_id = _text.decode(raw)
    except msgspec.DecodeError as error:
        raise BadField(f"custom_id: {error}") from None
    if not 0 < len(custom_id) <= MAX_ID_CHARS:
        raise BadField(f"custom_id: must have 1 to {MAX_ID_CHARS} characters")
    if CONTROL.search(custom_id):
        raise BadField("custom_id: holds a control character")
    return custom_id
