"""Datasette, restricted to requests that read and that name this host, with readable cells.

By DNS rebinding, a web page could have a browser on this machine send requests here under the
page's own host name and read all conversations; the header `Host` shows that name. Started by
`mh-batch explore`, never by hand.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

from datasette import hookimpl
from datasette.cli import cli
from datasette.plugins import pm
from markupsafe import Markup, escape
from uvicorn.config import LOGGING_CONFIG

from mh_batch.worker.text.format import format_size

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HTTP_PORT = 80
READS = ("GET", "HEAD")
LINKED = {"job_id": "jobs", "batch_id": "batches", "run_id": "runs", "attempt_id": "attempts"}
"""What a number in such a column is the row of, also in views and queries."""


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


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(value: object, column: str, database: str, datasette: Any) -> Markup | str | None:
    """Return a cell as people read it, `None` where datasette's own form is fine: its hook."""
    if isinstance(value, float):
        return readable(value)
    if isinstance(value, int) and column.endswith("_bytes"):
        return format_size(value)
    if isinstance(value, int) and column in LINKED:
        url = datasette.urls.row(database, LINKED[column], str(value))
        return Markup('<a href="{}">{}</a>').format(url, escape(value))
    return None


def readable(value: float) -> str:
    """Return a number with three digits, or without decimals from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class StartOnly(logging.Filter):
    """Lets through warnings, and in our words where the server is."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        if record.levelno >= logging.WARNING:
            return True
        if "running on" not in record.msg:
            return False
        record.msg = "mh-batch: the database is at %s://%s:%d/ (Ctrl-C ends it)"
        return True


def quieten(config: dict[str, Any]) -> None:
    """Change uvicorn's logging, so that it writes what `StartOnly` lets through."""
    config["filters"] = {"start only": {"()": StartOnly}}
    config["formatters"]["default"] = {"format": "%(message)s"}
    for handler in config["handlers"].values():
        handler["filters"] = ["start only"]


if __name__ == "__main__":
    # under its own name: a plugin must not be `__main__`
    pm.register(import_module("mh_batch.worker.output.explore.server"))
    quieten(LOGGING_CONFIG)
    cli()
