"""`mh-batch status --watch`: the dashboard of the worker, from the database alone."""

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
from mh_batch.worker.runtime.worker_pid import worker_pid

from .dashboard import lines, summary_line
from .live_region import LiveRegion
from .poller import Poller
from .snapshot import Snapshot

POLL_SECONDS = 0.5
POLLS_PER_CHECK = 4
"""How many polls of the database use one check for a worker process."""

PLAIN_SECONDS = 10.0
NO_WORKER = "no worker is running; `mh-batch work` starts one"


def watch_batch(path: Path, ref: str | None) -> None:
    """Show the progress of the queue until nothing is left, or until Ctrl-C.

    `ref` is the batch to watch, `None` for all: then it also continues while an idle worker waits
    for new jobs. Raises `UnknownTarget` if there is no such batch, `StoreUnusable` if the
    database cannot be read.
    """
    batch_id = None
    if ref is not None:
        with closing(open_reader(path)) as reader:
            batch_id = find_batch(reader, ref).id
    poller = Poller(path, batch_id)
    try:
        show = _show_live if sys.stdout.isatty() else _show_plain
        show(snapshots(poller, path, alone=batch_id is not None))
    except KeyboardInterrupt:
        worker = "" if worker_pid(path) is None else "; the worker goes on"
        print(f"\nstopped watching{worker}", file=sys.stderr)
    finally:
        poller.close()


def snapshots(poller: Poller, path: Path, *, alone: bool) -> Iterator[Snapshot]:
    """Yield a snapshot twice a second while there is something to wait for, then a final one.

    `alone` stops after the last job, even if a worker is still running.
    """
    polls = 0
    worker: int | None = None
    while True:
        if polls % POLLS_PER_CHECK == 0:
            worker = worker_pid(path)
        poller.working = worker is not None
        polls += 1
        poller.poll()
        if not poller.snapshot.waiting and (alone or worker_pid(path) is None):
            break
        yield replace(poller.snapshot, remark=None if poller.working else NO_WORKER)
        time.sleep(POLL_SECONDS)
    poller.poll(whole=True)
    yield Snapshot(batches=poller.snapshot.batches)


def _show_live(found: Iterator[Snapshot]) -> None:
    screen = LiveRegion(Console())
    screen.open()
    try:
        for snapshot in found:
            size = screen.console.size
            screen.show(lines(snapshot, size.width, size.height, datetime.now().astimezone()))
    finally:
        screen.close()


def _show_plain(found: Iterator[Snapshot]) -> None:
    """Print a line when it changes, at most every few seconds, and one at the end."""
    said, at = "", float("-inf")
    line = ""
    for snapshot in found:
        line = summary_line(snapshot, datetime.now().astimezone())
        if line != said and time.monotonic() - at >= PLAIN_SECONDS:
            print(line, flush=True)
            said, at = line, time.monotonic()
    if line != said:
        print(line, flush=True)
