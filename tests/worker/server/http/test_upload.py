"""Uploads: what arrives in any pieces is on the disk as it was sent."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from mh_batch.worker.server.http import upload as uploads
from mh_batch.worker.server.http.errors import ApiError
from mh_batch.worker.server.http.upload import Upload, file_name

pytestmark = pytest.mark.anyio

CONTENT = b'{"prompt": "Hi"}\r\n--frontier\r\n\r\n{"prompt": "\xc3\xa4"}\n'


def form(**parts: Any) -> tuple[dict[str, str], bytes]:
    """Return header and body of a form as another program writes it."""
    parts = parts or {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", CONTENT)}}
    request = httpx.Request("POST", "http://localhost/", **parts)
    return dict(request.headers), request.read()


def request_of(headers: dict[str, str], blocks: Iterable[bytes]) -> Request:
    """Return a request whose body comes in these blocks."""
    waiting = iter(blocks)

    async def receive() -> Message:
        block = next(waiting, None)
        if block is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": block, "more_body": True}

    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs}, receive)


@contextmanager
def uploading(folder: Path) -> Iterator[Upload]:
    """An upload whose leftovers are deleted, as the server does."""
    upload = Upload(folder / "files")
    try:
        yield upload
    finally:
        upload.discard()
    assert not [path.name for path in (folder / "files").glob(".*")]


async def refused(folder: Path, headers: dict[str, str], blocks: Iterable[bytes]) -> ApiError:
    with pytest.raises(ApiError) as error, uploading(folder) as upload:
        await upload.receive(request_of(headers, blocks))
    return error.value


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_a_file_that_comes_in_pieces_is_kept_as_it_was_sent(
    tmp_path: Path, size: int
) -> None:
    headers, body = form()
    blocks = [body[at : at + size] for at in range(0, len(body), size)]
    with uploading(tmp_path) as upload:
        await upload.receive(request_of(headers, blocks))
        upload.move(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == CONTENT
    assert (upload.filename, upload.bytes) == ("in.jsonl", len(CONTENT))
    assert upload.fields == {"purpose": "batch"}


async def test_the_file_may_come_before_the_other_fields(tmp_path: Path) -> None:
    parts = {"file": ("in.jsonl", CONTENT), "purpose": (None, b"batch")}
    headers, body = form(files=parts)
    assert body.index(b"in.jsonl") < body.index(b"purpose")
    with uploading(tmp_path) as upload:
        await upload.receive(request_of(headers, [body]))
    assert upload.fields == {"purpose": "batch"}


async def test_a_large_file_is_written_while_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "WRITE_BYTES", 100)
    headers, body = form(files={"file": ("in.jsonl", b"x" * 5000)})
    sizes = []

    def blocks() -> Iterator[bytes]:
        for at in range(0, len(body), 100):
            yield body[at : at + 100]
            sizes.append(upload.bytes)

    with uploading(tmp_path) as upload:
        await upload.receive(request_of(headers, blocks()))
    assert sizes == sorted(sizes)
    assert 2000 < sizes[len(sizes) // 2] < 3000


@pytest.mark.parametrize(
    ("headers", "body", "word"),
    [
        ({}, b"x", "multipart"),
        ({"content-type": "application/json"}, b"{}", "multipart"),
        ({"content-type": "multipart/form-data"}, b"x", "multipart"),
        ({"content-type": "multipart/form-data; boundary=q"}, b"xyz", "no multipart"),
        ({"content-type": "multipart/form-data; boundary=q"}, b"--q--\r\n", "file: missing"),
        ({"content-type": f"multipart/form-data; boundary={'q' * 999}"}, b"--q", "oundary"),
    ],
)
async def test_what_is_no_form_with_a_file_is_refused(
    tmp_path: Path, headers: dict[str, str], body: bytes, word: str
) -> None:
    error = await refused(tmp_path, headers, [body])
    assert error.status == 400
    assert word in str(error)


async def test_a_form_that_breaks_off_is_refused(tmp_path: Path) -> None:
    headers, body = form()
    assert "whole" in str(await refused(tmp_path, headers, [body[:-10]]))


async def test_a_form_with_two_files_or_too_much_beside_it_is_refused(tmp_path: Path) -> None:
    file = ("in.jsonl", CONTENT)
    for parts in (
        {"files": [("file", file), ("file", file)]},
        {"files": {"file": file}, "data": {f"f{n}": "x" for n in range(20)}},
        {"files": {"file": file}, "data": {"purpose": "x" * 2000}},
    ):
        headers, body = form(**parts)
        assert (await refused(tmp_path, headers, [body])).status == 400


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    headers, body = form()
    request = request_of(headers, [body[:80]])
    original = request.receive

    async def receive() -> Message:
        message = await original()
        return message if message["more_body"] else {"type": "http.disconnect"}

    gone = Request(request.scope, receive)
    with pytest.raises(ClientDisconnect), uploading(tmp_path) as upload:
        await upload.receive(gone)


async def test_a_file_that_says_to_be_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    headers, _ = form()
    error = await refused(tmp_path, headers | {"content-length": str(9 << 30)}, unread())
    assert error.status == 413


async def test_a_file_that_is_too_large_is_refused_while_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_UPLOAD_BYTES", 300)
    headers, body = form(files={"file": ("in.jsonl", b"x" * 1000)})
    del headers["content-length"]
    blocks = [body[at : at + 50] for at in range(0, len(body), 50)]
    assert (await refused(tmp_path, headers, blocks)).status == 413


async def test_a_file_leaves_room_on_the_disk_for_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "RESERVED_BYTES", 1 << 60)
    headers, body = form()
    error = await refused(tmp_path, headers, [body])
    assert (error.status, error.code) == (507, "insufficient_storage")


async def test_a_body_that_does_not_go_on_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.05)
    headers, body = form()
    request = request_of(headers, [body[:80]])

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(20), pytest.raises(ApiError) as error, uploading(tmp_path) as upload:
        await upload.receive(Request(request.scope, receive))
    assert error.value.status == 408


async def test_a_body_that_drips_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LEAST_SPEED", 1 << 30)
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(uploads, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    headers, body = form()
    error = await refused(tmp_path, headers, [body[at : at + 1] for at in range(len(body))])
    assert error.status == 408


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (b"in.jsonl", "in.jsonl"),
        (b"../../etc/passwd", "passwd"),
        (b"C:\\temp\\in.jsonl", "in.jsonl"),
        (b"", "upload.jsonl"),
        (b"..\x00\x1b[31m", "..__[31m"),
        ("fragen-ä.jsonl".encode(), "fragen-ä.jsonl"),
        (b"\xff.jsonl", "\ufffd.jsonl"),
        (b"x" * 300 + b".jsonl", "x" * 249 + ".jsonl"),
    ],
)
async def test_the_name_of_a_file_is_a_text_to_show(given: bytes, name: str) -> None:
    assert file_name(given) == name


def unread() -> Iterator[bytes]:
    raise AssertionError("the body was read")
    yield b""
