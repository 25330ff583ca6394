"""Datasette, restricted to requests that read and that name this host.

By DNS rebinding, a web page could have a browser on this machine send requests here under the
page's own host name and read all conversations; the header `Host` shows that name. Started by
`mh-batch explore`, never by hand.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

from datasette import hookimpl
from datasette.cli import cli
from datasette.plugins import pm

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HTTP_PORT = 80
READS = ("GET", "HEAD")


def guarded(app: App) -> App:
    """Return `app` refusing requests for another host (403) and requests that write (405)."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif hosts(scope) not in names(*scope["server"]):
            await _refuse(send, 403, "this server answers to the address it was started on only")
        elif scope["method"] not in READS:
            await _refuse(send, 405, "this server is only to be read")
        else:
            await app(scope, receive, send)

    return answer


def hosts(scope: Scope) -> tuple[str, ...]:
    """Return the hosts that a request names; a browser names exactly one."""
    return tuple(
        value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"
    )


def names(address: str, port: int) -> tuple[tuple[str, ...], ...]:
    """Return the host names of a server at this address: with the port, and without if it is 80."""
    known = (address, "localhost")
    with_port = tuple((f"{name}:{port}",) for name in known)
    return (*with_port, *((name,) for name in known)) if port == HTTP_PORT else with_port


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 405:
        headers.append((b"allow", ", ".join(READS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})


@hookimpl  # type: ignore[untyped-decorator]
def asgi_wrapper(datasette: object) -> Callable[[App], App]:  # noqa: ARG001
    """Return the wrapper of the application: a hook of datasette."""
    return guarded


if __name__ == "__main__":
    # under its own name: a plugin must not be `__main__`
    pm.register(import_module("mh_batch.worker.output.explore_server"))
    cli()
