"""Handlers of signals that hold for a block."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object], *signals: int) -> Iterator[None]:
    """Let `handler` have `signals` for the block; in another thread than the main one, nothing."""
    mine = signals if current_thread() is main_thread() else ()
    before = {number: signal.signal(number, handler) for number in mine}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
