"""Errors in OpenAI's form, with its status codes."""

import sys
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mh_batch.jobs.errors import EnvironmentFault, InputError, MhBatchError, UnknownTarget
from mh_batch.worker.text.escape import escape_controls

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ApiError(Exception):
    """A request that is refused.

    `param` is the field that is wrong, `code` a word for programs; `None` for neither.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the refusal of a request that is wrong in itself."""
    return ApiError(400, message, param=param, code=code)


def missing(message: str, param: str = "id") -> ApiError:
    """Return the refusal of a request for what is not there."""
    return ApiError(404, message, param=param)


def too_many(message: str, seconds: int) -> ApiError:
    """Return the refusal of a request that may come again after some seconds."""
    headers = {"retry-after": str(seconds)}
    return ApiError(429, message, code="rate_limit_exceeded", headers=headers)


def error_body(error: ApiError) -> bytes:
    """Return an error as OpenAI's clients read it."""
    kind = "rate_limit_error" if error.status == 429 else "invalid_request_error"
    about = {
        "message": escape_controls(str(error)),
        "type": kind if error.status < 500 else "server_error",
        "param": error.param,
        "code": error.code,
    }
    return msgspec.json.encode({"error": about})


def error_response(error: ApiError) -> Response:
    """Return the answer to a request that is refused."""
    headers = dict(error.headers)
    return Response(error_body(error), error.status, headers, media_type="application/json")


class JsonResponse(Response):
    """A value as JSON."""

    media_type = "application/json"

    def __init__(
        self, value: object, status: int = 200, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        super().__init__(msgspec.json.encode(value), status, dict(headers))


def as_api_error(error: Exception) -> ApiError:
    """Return what a client is told of an error that a request ended with.

    One that nobody expected goes to standard error with its traceback.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _about(error), headers=error.headers or NO_HEADERS)
    if isinstance(error, UnknownTarget):
        return missing(str(error))
    if isinstance(error, InputError):
        return invalid(str(error))
    if isinstance(error, EnvironmentFault):
        return ApiError(503, str(error), code="not_ready", headers={"retry-after": "10"})
    if isinstance(error, MhBatchError):
        return ApiError(500, str(error))
    trace = "".join(traceback.format_exception(error))
    sys.stderr.write(f"mh-batch: a request failed\n{escape_controls(trace)}")
    return ApiError(500, "an error of the server; its standard error says more")


def _about(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "no such address; the interface is below /v1"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return "this address does not take that method"
    return error.detail
