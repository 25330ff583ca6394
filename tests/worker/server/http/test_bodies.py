"""Small JSON bodies: what is too large, too deep or too slow is refused, with the field."""

from collections.abc import Iterable

import anyio
import msgspec
import pytest
from starlette.requests import Request
from starlette.types import Message

from mh_batch.worker.server.batches import BatchesQuery, CreateBatch
from mh_batch.worker.server.http import bodies
from mh_batch.worker.server.http.bodies import MOST_JSON_BYTES, read_json, read_query
from mh_batch.worker.server.http.errors import ApiError

pytestmark = pytest.mark.anyio
RIGHT = {
    "input_file_id": "file-1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "metadata": {"a": "b"},
}


def request_of(blocks: Iterable[bytes], length: int | None = None) -> Request:
    waiting = iter(blocks)

    async def receive() -> Message:
        block = next(waiting, None)
        return {"type": "http.request", "body": block or b"", "more_body": block is not None}

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def refused(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        await read_json(request_of([body]), CreateBatch)
    return error.value


async def test_a_body_that_comes_in_pieces_is_read_whole() -> None:
    body = msgspec.json.encode(RIGHT)
    request = request_of([body[at : at + 3] for at in range(0, len(body), 3)])
    assert await read_json(request, CreateBatch) == CreateBatch(**RIGHT)  # type: ignore[arg-type]


async def test_a_wrong_value_is_named() -> None:
    error = await refused(msgspec.json.encode(RIGHT | {"endpoint": 1}))
    assert (error.status, error.param) == (400, "endpoint")
    error = await refused(msgspec.json.encode(RIGHT | {"endpiont": "x"}))
    assert "endpiont" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"input_file_id":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"metadata":' * 10_000 + b"1" + b"}" * 10_000,
    ],
    ids=["empty", "open", "no text", "brackets", "brackets in a field", "objects"],
)
async def test_what_is_no_json_of_that_kind_is_refused(body: bytes) -> None:
    assert (await refused(body)).status == 400


async def test_a_body_that_says_to_be_too_large_is_refused_before_it_comes() -> None:
    def unread() -> Iterable[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(ApiError) as error:
        await read_json(request_of(unread(), 200_000_000), CreateBatch)
    assert error.value.status == 413


async def test_a_body_that_is_too_large_is_refused_while_it_comes() -> None:
    came = 0

    def blocks() -> Iterable[bytes]:
        nonlocal came
        for _ in range(200):
            came += 1
            yield b"x" * 1_000_000

    with pytest.raises(ApiError) as error:
        await read_json(request_of(blocks()), CreateBatch)
    assert error.value.status == 413
    assert came == MOST_JSON_BYTES // 1_000_000 + 1


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with anyio.fail_after(20), pytest.raises(ApiError) as error:
        await read_json(request, CreateBatch)
    assert (error.value.status, error.value.headers["connection"]) == (408, "close")


async def test_query_parameters_are_checked() -> None:
    def asked(query: bytes) -> BatchesQuery:
        scope = {"type": "http", "method": "GET", "headers": [], "query_string": query}
        return read_query(Request(scope), BatchesQuery)

    assert asked(b"limit=7&after=batch_2") == BatchesQuery("batch_2", 7)
    for query in (b"limit=0", b"limit=101", b"limit=many"):
        with pytest.raises(ApiError) as error:
            asked(query)
        assert error.value.param == "limit"
