"""uvicorn as it is used here: signals are ours, and it listens before it says so."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from mh_batch.jobs.errors import EnvironmentFault

from .guard import Guard
from .protocol import ImpatientProtocol

BACKLOG = 256
MOST_HEADER_BYTES = 16 << 10
END_SECONDS = 5
"""How long answers that are under way may take when the server ends."""


class Server(uvicorn.Server):
    """uvicorn, whose signals are ours; `announce` is called once it can be reached."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def http_server(app: Guard, announce: Callable[[], None]) -> Server:
    """Return the server of an application; `announce` is called once it can be reached."""
    server = Server(
        uvicorn.Config(
            app,
            http=ImpatientProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            log_level="critical",  # errors are told by the guard
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            timeout_graceful_shutdown=END_SECONDS,
        ),
        announce,
    )
    app.connections = server.server_state.connections
    return server


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any free one. Raises `EnvironmentFault`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise EnvironmentFault(
            f"{host}:{port}: cannot listen there: {error.strerror}; choose another --port"
        ) from None
    return listener
