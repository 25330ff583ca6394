"""Datasette that answers to its own name only, and only to be read.

A web page elsewhere can have a browser on this machine ask for it under a name of the page's own
(DNS rebinding), and would then read all conversations: the name is in the header `Host`. Started by
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
    """Return `app` with requests for another host refused (403), and all that do not read (405)."""

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
    """Return the hosts that a request is for; one without any, or with several, is no browser's."""
    return tuple(
        value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"
    )


def names(address: str, port: int) -> tuple[tuple[str, ...], ...]:
    """Return what a server at an address of this machine is called."""
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
    """Return what goes around the application: datasette asks its plugins for that."""
    return guarded


if __name__ == "__main__":
    # a plugin is a module with a name of its own
    pm.register(import_module("mh_batch.worker.output.explore_server"))
    cli()
