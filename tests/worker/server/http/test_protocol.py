"""Slow clients, and what is no HTTP: a real server, without a database."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.worker.server.http.guard import Access, Guard
from mh_batch.worker.server.http.protocol import ImpatientProtocol
from mh_batch.worker.server.http.server import http_server, listen

pytestmark = pytest.mark.anyio
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
SECONDS = 0.3
MUCH = 1 << 24


async def fine(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer without reading a body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


@asynccontextmanager
async def listening(
    seconds: float, monkeypatch: pytest.MonkeyPatch, app: ASGIApp = fine
) -> AsyncIterator[int]:
    """A server that gives clients so many seconds; yield its port."""
    monkeypatch.setattr(ImpatientProtocol, "seconds", seconds)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    started = anyio.Event()
    server = http_server(Guard(app, Access("127.0.0.1", port)), started.set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        with anyio.fail_after(30):
            await started.wait()
            yield port
        server.should_exit = True


async def rest(stream: anyio.abc.ByteStream) -> bytes:
    """Return all that comes until the server closes."""
    found = b""
    try:
        async for block in stream:
            found += block
    except anyio.BrokenResourceError:
        pass  # it was closed without ceremony
    return found


async def drip(stream: anyio.abc.ByteStream, block: bytes) -> None:
    """Send the block again and again until the server closes."""
    try:
        while True:
            await stream.send(block)
            await anyio.sleep(0.02)
    except anyio.BrokenResourceError:
        return


@pytest.mark.parametrize("sent", [b"", b"GET /", GET + b"X-Header: a"])
async def test_a_connection_without_a_whole_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    async with (
        listening(SECONDS, monkeypatch) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(sent % port if b"%d" in sent else sent)
        assert await rest(stream) == b""


async def test_a_client_that_drips_its_header_is_closed_in_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(SECONDS, monkeypatch) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        begun = anyio.current_time()
        await stream.send(GET % port + b"X-Header: ")
        await drip(stream, b"a")
        assert SECONDS / 2 < anyio.current_time() - begun < 20 * SECONDS


async def test_a_second_request_on_a_connection_has_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(SECONDS, monkeypatch) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        for _ in range(2):
            await stream.send(GET % port + b"\r\n")
            answer = b""
            while b"fine" not in answer:
                answer += await stream.receive()
        await stream.send(b"GET /")
        assert await rest(stream) == b""


async def test_a_body_that_nobody_wants_does_not_go_on_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(SECONDS, monkeypatch) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        head = (GET % port).replace(b"GET", b"POST") + b"Content-Length: 999999999\r\n\r\n"
        await stream.send(head)
        await drip(stream, b"a" * 1000)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_client_that_takes_nothing_of_its_answer_loses_it(
    monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(ImpatientProtocol, "send_seconds", SECONDS)

    async def much(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = {"type": "http.response.body", "body": bytes(MUCH)}
        for more in (False,) if whole else (True, True, False):
            await send({**body, "more_body": more})

    async with (
        listening(30, monkeypatch, much) as port,
        await anyio.connect_tcp("127.0.0.1", port) as stream,
    ):
        await stream.send(GET % port + b"\r\n")
        # longer than the server waits
        await anyio.sleep(4 * SECONDS)
        assert 0 < len(await rest(stream)) < MUCH


async def test_what_is_no_http_is_answered_in_openais_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(30, monkeypatch) as port:
        for sent in (b"\x16\x03\x01\r\n\r\n", GET % port + b"Host: b\r\n\r\n"):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(sent)
                head, _, body = (await rest(stream)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 400 Bad Request")
                assert json.loads(body)["error"]["type"] == "invalid_request_error"


async def test_an_address_that_is_taken_is_said_with_a_cure() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(EnvironmentFault, match="choose another --port"):
            listen("127.0.0.1", port)
