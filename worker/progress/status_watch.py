"""`mh-batch status --watch`: what the worker shows, from the database alone."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from mh_batch.store.connection import open_reader
from mh_batch.store.lookup import find_batch
from mh_batch.store.reports.progress import Pace

from .dashboard import Snapshot, lines, summary_line
from .live_region import LiveRegion
from .poller import Poller
from .worker_pid import worker_pid

LOOK_SECONDS = 0.5
PRESENCE_LOOKS = 4
"""How many looks at the database to one at the process that works on it."""

PLAIN_SECONDS = 10.0
NO_WORKER = "no worker is running; `mh-batch work` starts one"


def watch_batch(path: Path, ref: str | None) -> None:
    """Show how the queue gets on until nothing is left, or until Ctrl-C.

    `ref` is the one batch to watch, `None` for all; then it also goes on while a worker without
    work waits for more. Raises `UnknownTarget` if there is no such batch, `StoreUnusable` if the
    database cannot be read.
    """
    batch_id = None
    if ref is not None:
        with closing(open_reader(path)) as reader:
            batch_id = find_batch(reader, ref).id
    observer = Poller(path, batch_id)
    try:
        show = _show_live if sys.stdout.isatty() else _show_plain
        show(pictures(observer, path, alone=batch_id is not None))
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        observer.close()


def pictures(observer: Poller, path: Path, *, alone: bool) -> Iterator[Snapshot]:
    """Yield the picture twice a second while there is something to wait for, the last one whole.

    `alone` ends it with the last job, whether or not a worker is still there.
    """
    looks = 0
    worker: int | None = None
    while True:
        if looks % PRESENCE_LOOKS == 0:
            worker = worker_pid(path)
        looks += 1
        observer.look()
        if not observer.picture.waiting and (alone or worker_pid(path) is None):
            break
        yield seen(observer.picture, worker)
        time.sleep(LOOK_SECONDS)
    observer.look(whole=True)
    yield Snapshot(batches=observer.picture.batches)


def seen(picture: Snapshot, worker: int | None) -> Snapshot:
    """Return the picture less what is not true without a worker; `worker` is its pid."""
    if worker is not None:
        return picture
    return replace(picture, attempting=None, pace=Pace(0, 0.0, None), last=None, remark=NO_WORKER)


def _show_live(found: Iterator[Snapshot]) -> None:
    screen = LiveRegion(Console())
    screen.open()
    try:
        for picture in found:
            size = screen.console.size
            screen.show(lines(picture, size.width, size.height, datetime.now().astimezone()))
    finally:
        screen.close()


def _show_plain(found: Iterator[Snapshot]) -> None:
    """Print a line when there is news, at most every few seconds, and one at the end."""
    said, at = "", float("-inf")
    line = ""
    for picture in found:
        line = summary_line(picture, datetime.now().astimezone())
        if line != said and time.monotonic() - at >= PLAIN_SECONDS:
            print(line, flush=True)
            said, at = line, time.monotonic()
    if line != said:
        print(line, flush=True)
