"""Small JSON bodies and query parameters, as structs."""

from typing import TypeVar

import anyio
import msgspec
from starlette.requests import Request

from .errors import ApiError, invalid

MOST_JSON_BYTES = 1 << 20
BODY_SECONDS = 30.0
"""How long a client may take to send such a body."""

T = TypeVar("T")


async def read_json(request: Request, kind: type[T]) -> T:
    """Return the body of a request; raises `ApiError` for one that is too large or wrong."""
    body = await read_body(request, MOST_JSON_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        param = where.rstrip("`") or None
        raise invalid(f"{param}: {reason}" if param else reason, param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}", code="invalid_json") from None


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request; one that says to be larger is refused before it is read."""
    if (declared_length(request) or 0) > most:
        raise too_large(most)
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for block in request.stream():
                body += block
                if len(body) > most:
                    raise too_large(most)
    except TimeoutError:
        raise too_slow() from None
    return bytes(body)


def declared_length(request: Request) -> int | None:
    """Return the length that a request says its body has, `None` if it says nothing."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None


def too_large(most: int) -> ApiError:
    """Return the refusal of a body of more than `most` bytes."""
    return ApiError(413, f"the body has more than {most:,} bytes", code="request_too_large")


def too_slow() -> ApiError:
    """Return the refusal of a body that does not come."""
    message = "the body did not come in time"
    return ApiError(408, message, code="request_timeout", headers={"connection": "close"})


def read_query(request: Request, kind: type[T]) -> T:
    """Return the query parameters as a struct; those that it does not have are ignored."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        param = where.rstrip("`") or None
        raise invalid(f"{param}: {reason}" if param else reason, param) from None
