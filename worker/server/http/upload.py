"""A multipart body with one file, written to disk as it comes."""

import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from mh_batch.jobs.errors import storable
from mh_batch.jobs.files import PartialFile, make_folder

from .bodies import declared_length, too_large, too_slow
from .errors import ApiError, invalid

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE_FIELD = "file"
MOST_UPLOAD_BYTES = 8 << 30
MOST_FIELD_BYTES = 1 << 10
MOST_FIELDS = 16
MOST_NAME_CHARS = 255
WRITE_BYTES = 1 << 20
RESERVED_BYTES = 1 << 30
"""How much of the disk an upload leaves free: what the worker records needs it."""

IDLE_SECONDS = 30.0
LEAST_SPEED = 1 << 10
"""How slow an upload may be, in bytes a second, from `IDLE_SECONDS` on."""


class Upload:
    """An upload on its way to a file of `folder`; `filename` and `fields` are what came with it.

    Use it as a context manager: what `take` has not moved away is deleted at its end.
    """

    def __init__(self, folder: Path) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self._folder = folder
        self._target = folder / f".mh-batch-{secrets.token_hex(8)}.upload"
        self._file: PartialFile | None = None
        self._parts = _Parts()

    async def receive(self, request: Request) -> None:
        """Read the whole body; raises `ApiError` for one that is wrong, too large or too slow."""
        if (declared := declared_length(request) or 0) > MOST_UPLOAD_BYTES:
            raise too_large(MOST_UPLOAD_BYTES)
        try:
            parser = self._parts.parser(request.headers.get("content-type"))
            await anyio.to_thread.run_sync(self._open, declared)
            await self._read(request, parser)
            if not self._parts.ended:
                raise invalid("the body is no whole multipart form")
            await anyio.to_thread.run_sync(self._keep)
        except FormParserError as error:
            raise invalid(f"the body is no multipart form: {error}") from None
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise too_slow() from None
            raise ApiError(
                507, f"the file cannot be stored: {error.strerror}", code="insufficient_storage"
            ) from None
        self.fields, self.filename = self._parts.fields, self._parts.filename
        if self.filename is None:
            raise invalid("file: missing", FILE_FIELD)

    def move(self, path: Path) -> None:
        """Move the file that was received to where it stays."""
        self._target.replace(path)

    def discard(self) -> None:
        """Delete what was received, unless it was moved away."""
        if self._file is not None:
            self._file.discard()
        self._target.unlink(missing_ok=True)

    async def _read(self, request: Request, parser: MultipartParser) -> None:
        begun = time.monotonic()
        received = 0
        blocks = request.stream().__aiter__()
        while True:
            try:
                with anyio.fail_after(IDLE_SECONDS):
                    block = await anext(blocks)
            except StopAsyncIteration:
                break
            received += len(block)
            if received > MOST_UPLOAD_BYTES:
                raise too_large(MOST_UPLOAD_BYTES)
            seconds = time.monotonic() - begun
            if seconds > IDLE_SECONDS and received < seconds * LEAST_SPEED:
                raise too_slow()
            parser.write(block)
            if len(self._parts.content) >= WRITE_BYTES:
                await anyio.to_thread.run_sync(self._write)
        await anyio.to_thread.run_sync(self._write)

    def _open(self, nbytes: int) -> None:
        make_folder(self._folder)
        self._check_space(nbytes)
        self._file = PartialFile(self._target)

    def _write(self) -> None:
        assert self._file is not None, "it is opened first"
        self._check_space(len(self._parts.content))
        self._file.out.write(self._parts.content)
        self.bytes += len(self._parts.content)
        self._parts.content.clear()

    def _check_space(self, nbytes: int) -> None:
        if shutil.disk_usage(self._folder).free - nbytes < RESERVED_BYTES:
            raise ApiError(507, "the disk is nearly full", code="insufficient_storage")

    def _keep(self) -> None:
        assert self._file is not None, "it is opened first"
        self._file.keep()


class _Parts:
    """What a multipart form holds; the `content` of its file is taken away as it comes."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.content = bytearray()
        self.ended = False
        self._name = ""
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[str, str] = {}

    def parser(self, content_type: str | None) -> MultipartParser:
        """Return the parser of a form with this content type."""
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise invalid("the body must be multipart/form-data with a file")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }
        return MultipartParser(options[b"boundary"], callbacks)

    def _begin(self) -> None:
        self._name = ""
        self._value.clear()
        self._headers = {}

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        name = self._header.decode("latin-1").lower()
        self._headers[name] = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == FILE_FIELD:
            if self.filename is not None:
                raise invalid("file: there are two", FILE_FIELD)
            self.filename = file_name(options.get(b"filename", b""))
        elif not self._name or self._name in self.fields or len(self.fields) >= MOST_FIELDS:
            raise invalid("the form has fields without a name, twice, or too many")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self.content += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > MOST_FIELD_BYTES:
            raise invalid(f"{self._name[:40]}: longer than {MOST_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if self._name != FILE_FIELD:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end_form(self) -> None:
        self.ended = True


def file_name(given: bytes) -> str:
    """Return the name of a client's file as a text to show: it never becomes a path."""
    name = storable(given.decode("utf-8", "replace"))
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(char if char.isprintable() else "_" for char in last)
    return shown[-MOST_NAME_CHARS:] or "upload.jsonl"
