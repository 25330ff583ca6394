"""HTTP with a deadline for what is not a request yet, and for an answer that nobody takes.

uvicorn alone waits for ever for the first byte, for the next one of a header, and for a client that
reads nothing.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import error_body, invalid

HEADER_SECONDS = 20.0
"""How long a client may take for the header of a request, or to end one that was answered."""


SEND_SECONDS = 60.0
"""How long a client may take for the part of an answer that is due to it."""

MOST_SOCKETS = 2048
"""How many connections there may be at all; the guard refuses requests long before."""


class ImpatientProtocol(H11Protocol):
    """Closes connections on which no request has come in time: they cost a socket till then.

    What follows an answered request counts too: the rest of a body that was refused.
    """

    seconds = HEADER_SECONDS
    send_seconds = SEND_SECONDS
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_SOCKETS:
            transport.abort()
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        super().connection_lost(exc)
        self._clear()
        self._clear_stalled()

    def pause_writing(self) -> None:
        """Begin to wait for a client that is slower than its answer."""
        super().pause_writing()
        self._clear_stalled()
        # not `close`, which would wait for the client too
        self._stalled = self.loop.call_later(self.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has taken nearly all that was sent."""
        super().resume_writing()
        self._clear_stalled()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in OpenAI's form."""
        body = error_body(invalid(msg))
        length = str(len(body)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", length),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _waits(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_deadline(self) -> None:
        if not self._waits:
            self._clear()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.seconds, self._end)

    def _clear(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _clear_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _end(self) -> None:
        self._deadline = None
        if self._waits and not self.transport.is_closing():
            self.transport.abort()
