"""A progress bar for reading a file, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mh_batch.worker.text.format import printable

from .submission import Progress
from .tables.source import Source


@contextmanager
def submit_progress(file: Source, source: str) -> Iterator[Progress | None]:
    """Show a bar on standard error while the block reads `file`; `None` if it is no terminal.

    Without a size (a pipe), the bar moves but shows no share.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} lines"),
        TimeRemainingColumn(),
    )
    # no refresh thread: the calls come often enough
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as bar:
        task = bar.add_task(printable(source), total=file.size, lines=0)

        def show(read: int, lines: int) -> None:
            bar.update(task, completed=read, lines=lines, refresh=True)

        yield show
