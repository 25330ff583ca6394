"""Lines at the bottom of a terminal that are rewritten in place; other output scrolls above."""

import threading
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from mh_batch.worker.text.console import plain


class LiveRegion:
    """The region of one terminal; safe for several threads. A closed terminal is no error.

    rich erases as many rows as it wrote. When the terminal gets narrower, it folds these rows into
    more, and rich would leave some behind: they are erased here first.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lock = threading.RLock()
        self._shown: tuple[Text, ...] = ()
        self._width = console.width
        self._live = Live(
            console=console,
            auto_refresh=False,
            get_renderable=lambda: Group(*self._shown),
            vertical_overflow="crop",
        )

    def open(self) -> None:
        """Start showing."""
        with suppress(OSError):
            self._live.start()

    def close(self) -> None:
        """Stop; the last lines stay."""
        with self._lock, suppress(OSError):
            self._erase_folds()
            self._live.stop()

    def show(self, lines: Sequence[Text]) -> None:
        """Replace the shown lines."""
        with self._lock, suppress(OSError):
            self._erase_folds()
            self._shown = tuple(lines)
            self._live.refresh()

    def say(self, text: str) -> None:
        """Print a line above the region."""
        with self._lock, suppress(OSError):
            self._erase_folds()
            self.console.print(plain(text))

    def _erase_folds(self) -> None:
        """Erase the extra rows that the shown lines take since the terminal got narrower."""
        width, former = max(1, self.console.width), self._width
        self._width = width
        if width >= former:
            return
        folds = sum(max(0, -(-line.cell_len // width) - 1) for line in self._shown)
        up = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)]
        self.console.control(Control(*(up * folds)))
