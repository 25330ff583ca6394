"""Who may ask: Host, Origin and key are checked before anything of a request is read.

By DNS rebinding, a web page could have a browser on this machine send requests here under the
page's own host name; the header `Host` shows that name, and `Origin` where a page is from.
"""

import hmac
import ipaddress
import sys
import traceback
from collections.abc import Collection

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mh_batch.worker.text.escape import escape_controls

from .errors import ApiError, as_api_error, error_response, too_many

MOST_REQUESTS = 256
"""How many requests may be under way."""

MOST_CONNECTIONS = 1024
"""From how many open connections on requests are refused."""

HTTP_PORT = 80


class Access(msgspec.Struct, frozen=True):
    """Where the server listens, and the key that clients must have; `None` for none."""

    host: str
    port: int
    api_key: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The values of `Host` for which it answers without a key."""
        names = {"127.0.0.1", "localhost", "[::1]", bracketed(self.host.lower())}
        plain = names if self.port == HTTP_PORT else set[str]()
        return frozenset({f"{name}:{self.port}" for name in names} | plain)


def bracketed(host: str) -> str:
    """Return a host as it is written in an address: an IPv6 one in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether a host name reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Answers requests that may come, at most so many at a time, and turns errors into answers.

    `connections` are those that are open, however little came on them.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.connections: Collection[object] = ()
        self._app = app
        self._access = access
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        self._open += 1
        try:
            check_origin(scope, self._access)
            check_key(scope, self._access.api_key)
            if self._open > MOST_REQUESTS or len(self.connections) > MOST_CONNECTIONS:
                raise too_many("too many requests or connections are open; try again", 1)
            # without this, starlette answers in its own form where there is no such address
            await self._app({**scope, "app": self}, receive, answer.send)
        except Exception as error:  # noqa: BLE001  # each is answered, and told if unexpected
            await self._refuse(error, scope, receive, answer)
        finally:
            self._open -= 1

    async def _refuse(
        self, error: Exception, scope: Scope, receive: Receive, answer: "_Answer"
    ) -> None:
        if isinstance(error, ClientDisconnect):
            return
        if not answer.begun:
            await error_response(as_api_error(error))(scope, receive, answer.send)
        else:
            trace = "".join(traceback.format_exception(error))
            sys.stderr.write(f"mh-batch: an answer broke off\n{escape_controls(trace)}")
        # what was begun stays incomplete: uvicorn closes the connection, so the client sees it


class _Answer:
    """Sends an answer, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


def check_origin(scope: Scope, access: Access) -> None:
    """Raise `ApiError` for a request under another host's name, or from a web page elsewhere.

    With a key, any name will do: a page cannot know the key.
    """
    hosts = _header(scope, b"host")
    if len(hosts) != 1 or (access.api_key is None and hosts[0].lower() not in access.names):
        raise ApiError(
            403, "this server answers to the address it was started on only", code="wrong_host"
        )
    for origin in _header(scope, b"origin"):
        if origin.lower() != f"http://{hosts[0].lower()}":
            raise ApiError(403, "this server takes no requests of web pages", code="wrong_origin")


def check_key(scope: Scope, api_key: str | None) -> None:
    """Raise `ApiError` for a request without the key; a wrong one takes as long to compare."""
    if api_key is None:
        return
    given = _header(scope, b"authorization")
    key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    matches = hmac.compare_digest(key[2].strip().encode("latin-1"), api_key.encode())
    if key[0].lower() != "bearer" or not matches:
        raise ApiError(
            401,
            "Incorrect API key provided: the server was started with --api-key or MH_BATCH_API_KEY",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
