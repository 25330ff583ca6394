"""Lines at the bottom of a terminal that are rewritten in place; the rest scrolls above them."""

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
    """Any thread may use it; a terminal that went away must not end the night.

    rich goes back over as many rows as it wrote. A terminal that was made narrower has folded them
    into more, which would stay behind as rubbish: those are taken back first.
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
        """Begin to show."""
        with suppress(OSError):
            self._live.start()

    def close(self) -> None:
        """Leave the last lines where they are."""
        with self._lock, suppress(OSError):
            self._take_back_folds()
            self._live.stop()

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines in place of the former ones."""
        with self._lock, suppress(OSError):
            self._take_back_folds()
            self._shown = tuple(lines)
            self._live.refresh()

    def say(self, text: str) -> None:
        """Print a line above."""
        with self._lock, suppress(OSError):
            self._take_back_folds()
            self.console.print(plain(text))

    def _take_back_folds(self) -> None:
        """Clear the rows that the shown lines have taken more since the terminal is narrower."""
        width, former = max(1, self.console.width), self._width
        self._width = width
        if width >= former:
            return
        folds = sum(max(0, -(-line.cell_len // width) - 1) for line in self._shown)
        up = [(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)]
        self.console.control(Control(*(up * folds)))
