"""Who may ask, and what the others are told."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from mh_batch.jobs.errors import InputError, StoreUnusable, UnknownTarget
from mh_batch.worker.server.http import guard as guards
from mh_batch.worker.server.http.guard import Access, Guard, bracketed, is_loopback

LOCAL = Access("127.0.0.1", 8000)
OPEN = Access("0.0.0.0", 8000, "s3cret")


class Answer:
    """What a client gets: the status, the headers and the body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message.get("body", b"")

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


async def fine(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def ask(
    access: Access,
    app: Callable[[Scope, Receive, Send], Awaitable[None]] = fine,
    /,
    **headers: str,
) -> Answer:
    """Send a request through a guard; `headers` by name, a `_` for a `-`."""
    answer = Answer()
    pairs = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    await Guard(app, access)({"type": "http", "headers": pairs}, no_body, answer.send)
    return answer


async def no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"]
)
async def test_a_request_to_the_own_address_is_answered(host: str) -> None:
    assert (await ask(LOCAL, host=host)).body == b"fine"
    assert (await ask(LOCAL, host=host, origin=f"http://{host}")).body == b"fine"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1", "127.0.0.1:80", "", "127.0.0.1:8000.evil"]
)
async def test_a_request_under_another_name_is_refused(host: str) -> None:
    answer = await ask(LOCAL, host=host)
    assert (answer.status, answer.error["code"]) == (403, "wrong_host")


@pytest.mark.anyio
async def test_a_request_without_a_name_is_refused() -> None:
    assert (await ask(LOCAL)).status == 403


@pytest.mark.anyio
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8000", "http://localhost:3000"]
)
async def test_a_request_of_a_page_elsewhere_is_refused(origin: str) -> None:
    answer = await ask(LOCAL, host="127.0.0.1:8000", origin=origin)
    assert (answer.status, answer.error["code"]) == (403, "wrong_origin")
    keyed = await ask(OPEN, host="127.0.0.1:8000", origin=origin, authorization="Bearer s3cret")
    assert keyed.status == 403


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given",
    [None, "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cretx", "Bearer \xff"],
)
async def test_a_request_without_the_key_is_refused(given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = await ask(OPEN, fine, host="night.local:8000", **headers)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.anyio
async def test_a_request_with_the_key_is_answered_under_any_name() -> None:
    assert (await ask(OPEN, host="night.local", authorization="Bearer s3cret")).body == b"fine"


@pytest.mark.anyio
async def test_more_requests_than_there_may_be_are_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guards, "MOST_REQUESTS", 1)
    inner = Answer()

    async def asks_again(scope: Scope, receive: Receive, send: Send) -> None:
        await guard(dict(scope), no_body, inner.send)
        await fine(scope, receive, send)

    guard = Guard(asks_again, LOCAL)
    outer = Answer()
    headers = [(b"host", b"127.0.0.1:8000")]
    await guard({"type": "http", "headers": headers}, no_body, outer.send)
    assert (inner.status, inner.headers["retry-after"]) == (429, "1")
    assert inner.error["type"] == "rate_limit_error"
    assert outer.body == b"fine"


@pytest.mark.anyio
async def test_more_connections_than_there_may_be_are_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guards, "MOST_CONNECTIONS", 2)
    guard = Guard(fine, LOCAL)
    for connections, status in (([1, 2], 200), ([1, 2, 3], 429)):
        guard.connections = connections
        answer = Answer()
        headers = [(b"host", b"127.0.0.1:8000")]
        await guard({"type": "http", "headers": headers}, no_body, answer.send)
        assert answer.status == status


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InputError("wrong"), 400, "invalid_request_error"),
        (UnknownTarget("no batch"), 404, "invalid_request_error"),
        (StoreUnusable("the disk is full"), 503, "server_error"),
        (ZeroDivisionError("oh"), 500, "server_error"),
    ],
)
async def test_an_error_is_an_answer_in_openais_form(
    error: Exception, status: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(*_: object) -> None:
        raise error

    answer = await ask(LOCAL, fails, host="127.0.0.1:8000")
    assert (answer.status, answer.error["type"]) == (status, kind)
    told = capsys.readouterr().err
    # what nobody expected goes to the log, and not to the client
    assert ("ZeroDivisionError" in told) == (status == 500)
    assert ("oh" in answer.error["message"].split()) is False


@pytest.mark.anyio
async def test_nobody_is_told_of_a_client_that_has_gone(capsys: pytest.CaptureFixture[str]) -> None:
    async def left(*_: object) -> None:
        raise ClientDisconnect

    assert (await ask(LOCAL, left, host="127.0.0.1:8000")).status == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("night.local", False),
        ("localhost.evil.example", False),
    ],
)
def test_only_addresses_of_this_machine_need_no_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_on_the_port_of_http_a_name_needs_no_port() -> None:
    assert {"localhost", "localhost:80", "[::1]"} <= Access("::1", 80).names
    assert "localhost" not in LOCAL.names
    assert bracketed("::1") == "[::1]"
