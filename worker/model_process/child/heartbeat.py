"""Signs of life of one attempt."""

import time
from collections.abc import Callable

from mh_batch.jobs.errors import Stage
from mh_batch.worker.model_process.protocol import Phase, Progress, ToParent

PROGRESS_SECONDS = 0.3


class Heartbeat:
    """Sends `Progress` for one attempt: at each change of phase, and a few times a second.

    It is called on the thread that owns MLX: a sign of life from another thread proves nothing.
    """

    def __init__(self, request_id: int, send: Callable[[ToParent], None]) -> None:
        self._id = request_id
        self._send = send
        self._phase: Phase = "render"
        self._tokens = 0
        self._last = time.monotonic()

    @property
    def stage(self) -> Stage:
        """The stage of the job that the attempt is at."""
        return "render" if self._phase == "render" else "generate"

    def watching(self, is_cancelled: Callable[[int], bool]) -> Callable[[], bool]:
        """Return what tells whether the attempt is cancelled, and beats whenever it is asked."""

        def cancelled() -> bool:
            self.chunk()
            return is_cancelled(self._id)

        return cancelled

    def turn_awaited(self) -> None:
        """Report an attempt that waits for its turn; does nothing once it has begun."""
        if self._phase == "render":
            self._beat("render")

    def chunk(self) -> None:
        """Report that the next chunk of the prompt, or the next token, is about to be read."""
        self._beat("decode" if self._tokens else "prefill")

    def token(self, count: int) -> None:
        """Report that there are `count` tokens."""
        self._tokens = count
        self._beat("decode")

    def _beat(self, phase: Phase) -> None:
        now = time.monotonic()
        if phase != self._phase or now - self._last >= PROGRESS_SECONDS:
            self._phase, self._last = phase, now
            self._send(Progress(self._id, self._tokens, phase))
