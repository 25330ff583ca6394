"""Rendering what comes next, on a thread of its own: nothing else ever waits for it.

A chat template may never end. On the thread that reads frames, that would keep the running attempt
from being cancelled and from its next step, and so the wrong job would look hung.
"""

import ctypes
import threading
from collections.abc import Callable

from mh_batch.jobs.generation import GenerationRequest

HINT_SECONDS = 20.0
"""How long a prompt is rendered ahead, beside an attempt that shares the interpreter with it."""

Prepare = Callable[[GenerationRequest], None]


class _TookTooLong(BaseException):
    """Raised in the rendering thread from outside; no error that a template could cause."""


class Hints:
    """Works on the latest hint. One that takes longer than `seconds` is broken off.

    Whoever needs its prompt renders it then, and what is wrong with it shows there.
    """

    def __init__(self, seconds: float = HINT_SECONDS) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._prepare: Prepare | None = None
        self._next: GenerationRequest | None = None
        self._current: GenerationRequest | None = None

    def start(self) -> None:
        """Begin to work on hints."""
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def prepare_with(self, prepare: Prepare | None) -> None:
        """Have hints worked on by `prepare`; those given before are forgotten.

        `None` passes hints over.
        """
        with self._changed:
            self._prepare, self._next = prepare, None

    def put(self, request: GenerationRequest) -> None:
        """Take a hint; one that is not begun yet gives way to it."""
        with self._changed:
            self._next = request
            self._changed.notify_all()

    def wait_for(self, request: GenerationRequest) -> None:
        """Wait if this very request is being rendered; if it is not begun, it is forgotten."""
        with self._changed:
            if self._next == request:
                self._next = None
            self._changed.wait_for(lambda: self._current != request)

    def _run(self) -> None:
        while True:
            self._work()

    def _work(self) -> None:
        """Work on one hint; nothing of it is held afterwards, such as a model that is to go."""
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
        limit = threading.Timer(self._seconds, self._break_off, (thread, request))
        limit.daemon = True
        limit.start()
        try:
            prepare(request)
            # until the timer is over no lock is taken here that others need: its error may be
            # raised at any step, also right behind the taking of one
            limit.cancel()
            limit.join()
            _raise_in(thread, None)
        except _TookTooLong:
            return

    def _break_off(self, thread: int, request: GenerationRequest) -> None:
        with self._changed:
            if self._current is request:
                _raise_in(thread, _TookTooLong)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise `error` in another thread of Python code; `None` takes back what is not raised yet.

    Python has no other way to end a loop that somebody else wrote.
    """
    raised = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
