"""Renders the next prompt ahead, on a thread of its own.

A chat template may never end. On the thread that reads frames it would block cancellation and the
running attempt, so that the wrong job would look hung.
"""

import ctypes
import threading
from collections.abc import Callable

from mh_batch.jobs.generation import GenerationRequest

HINT_SECONDS = 20.0
"""How long rendering ahead may take: it shares the interpreter with the running attempt."""

Prepare = Callable[[GenerationRequest], None]


class _TookTooLong(BaseException):
    """Raised in the rendering thread by another one; a template cannot catch it by accident."""


class Hints:
    """Renders the latest hint, and gives up after `seconds`.

    The attempt itself renders the prompt again then, and reports what is wrong with it.
    """

    def __init__(self, seconds: float = HINT_SECONDS) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._prepare: Prepare | None = None
        self._next: GenerationRequest | None = None
        self._current: GenerationRequest | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def prepare_with(self, prepare: Prepare | None) -> None:
        """Render hints with `prepare` and drop any earlier hint; `None` ignores hints."""
        with self._changed:
            self._prepare, self._next = prepare, None

    def put(self, request: GenerationRequest) -> None:
        """Set the next hint; it replaces one that is not begun."""
        with self._changed:
            self._next = request
            self._changed.notify_all()

    def wait_for(self, request: GenerationRequest) -> None:
        """Wait while this request is being rendered; drop it if it is not begun."""
        with self._changed:
            if self._next == request:
                self._next = None
            self._changed.wait_for(lambda: self._current != request)

    def _run(self) -> None:
        while True:
            self._work()

    def _work(self) -> None:
        """Render one hint and keep no reference to it or to its model."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None)
            request, self._next = self._next, None
            prepare, self._current = self._prepare, request
        try:
            if request is not None and prepare is not None:
                self._render(prepare, request)
        finally:
            with self._changed:
                self._current = None
                self._changed.notify_all()

    def _render(self, prepare: Prepare, request: GenerationRequest) -> None:
        thread = threading.get_ident()
        limit = threading.Timer(self._seconds, self._stop_rendering, (thread, request))
        limit.daemon = True
        limit.start()
        try:
            prepare(request)
            # no shared lock may be taken before the timer is over: its error may be raised at any
            # step, also right after a lock was taken
            limit.cancel()
            limit.join()
            _raise_in(thread, None)
        except _TookTooLong:
            return

    def _stop_rendering(self, thread: int, request: GenerationRequest) -> None:
        with self._changed:
            if self._current is request:
                _raise_in(thread, _TookTooLong)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise `error` in another Python thread; `None` takes back one that is not raised yet.

    Python has no other way to end a loop in foreign code.
    """
    raised = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
