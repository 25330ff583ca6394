"""The requests of the worker, as the model process takes them."""

import os
import queue
import sys
import threading
from typing import BinaryIO

import msgspec

from mh_batch.worker.model_process.protocol import (
    HEADER_BYTES,
    BadFrame,
    Cancel,
    GenerateFrame,
    JobDone,
    Load,
    Measure,
    Prepare,
    Selftest,
    Shutdown,
    body_length,
    decode_to_child,
    request_id,
)

from .hints import Hints


class Unreadable(msgspec.Struct, frozen=True):
    """A request that could not be decoded, and the reason."""

    id: int
    reason: str


Request = Load | GenerateFrame | Measure | Selftest | Unreadable
Taken = Request | JobDone | Shutdown
"""What the thread that owns MLX takes from the inbox."""


class Inbox:
    """Reads frames on a thread of its own, so that a cancellation gets through.

    If the pipe closes, the worker is gone: the process exits at once, even during a generation.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._requests: queue.SimpleQueue[Taken] = queue.SimpleQueue()
        self.hints = Hints()
        # held while the two sets change, so that a late cancellation leaves nothing behind
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._cancelled: set[int] = set()

    def start(self) -> None:
        """Start the threads that read frames and render ahead."""
        self.hints.start()
        threading.Thread(target=self._read, name="frames", daemon=True).start()

    def get(self) -> Taken:
        """Wait for the next request."""
        return self._requests.get()

    def poll(self) -> Taken | None:
        """Return the next request without waiting; `None` if there is none."""
        try:
            return self._requests.get_nowait()
        except queue.Empty:
            return None

    def is_cancelled(self, request_id: int) -> bool:
        """Whether the worker has cancelled this request."""
        return request_id in self._cancelled

    def answered(self, request_id: int) -> None:
        """Forget a request; a cancellation that comes later is ignored."""
        with self._lock:
            self._open.discard(request_id)
            self._cancelled.discard(request_id)

    def read_all(self) -> None:
        """Take frames until the pipe closes; raises `BadFrame`."""
        while header := self._stream.read(HEADER_BYTES):
            self._take(self._stream.read(body_length(header)))

    def _read(self) -> None:
        code = 1
        try:
            self.read_all()
            code = 0
        except BadFrame as error:
            print(f"mh-batch model process: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def _take(self, body: bytes) -> None:
        """Sort one frame; raises `BadFrame` for one that cannot be answered."""
        try:
            frame = decode_to_child(body)
        except BadFrame as error:
            unreadable = request_id(body)
            if unreadable is None:
                raise
            self._requests.put(Unreadable(unreadable, str(error)))
            return
        if isinstance(frame, Cancel):
            self._cancel(frame.id)
        elif isinstance(frame, Prepare):
            self.hints.put(frame.request)
        else:
            if isinstance(frame, GenerateFrame):
                with self._lock:
                    self._open.add(frame.id)
            self._requests.put(frame)

    def _cancel(self, request_id: int) -> None:
        with self._lock:
            if request_id in self._open:
                self._cancelled.add(request_id)
