"""`mh-batch work`: lock, recover, drain, and an honest end whatever happens."""

import signal
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import EnvironmentFault, StoreUnusable, WorkerRunning
from mh_batch.store import queue
from mh_batch.store.lock import worker_lock
from mh_batch.worker.draining.reporter import Display, Tally
from mh_batch.worker.files import make_folder
from mh_batch.worker.model_process.client import COMMAND
from mh_batch.worker.model_process.preload import preloading
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.stop import EndReason, next_showing, wait_for_clock
from mh_batch.worker.runtime.store_thread import StoreThread
from mh_batch.worker.text.format import format_count

from .loop import Drain

__all__ = ["DrainOptions", "Outcome", "work"]

NOTICE_SECONDS = 0.5
"""How often it is looked whether somebody else wrote to the database; that costs no look-up."""

LOCK_STEPS = 10
LOCK_STEP_SECONDS = 0.1
"""How often, and after which pauses, the lock is tried again before a worker is refused."""

Beside = Callable[[], Coroutine[Any, Any, None]]
Wishes = AsyncIterator[object]
"""Wishes of a person that the work should stop, as they come: signals mostly."""


class Outcome(msgspec.Struct, frozen=True):
    """How a drain went; `run_id` is its row in `runs`, `seconds` how long it took."""

    reason: EndReason
    tally: Tally
    run_id: int
    seconds: float

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before the queue was empty."""
        return self.reason in (EndReason.STOPPED, EndReason.KILLED)

    @property
    def exit_code(self) -> int:
        """0 if it came to its end and no job failed or is incomplete, else 1."""
        return 0 if self.tally.all_well and not self.stopped else 1


async def work(task: DrainOptions, display: Display, command: tuple[str, ...] = COMMAND) -> Outcome:
    """Drain the queue of `task.db`; the first SIGINT or SIGTERM ends it after the current turn.

    While a model is loaded, or waited for, no turn is under way, and it ends at once.

    SIGINT is heard also where the process was started to ignore it, as `&` in a script does:
    nothing is lost, and a person who sends it means it.

    `command` starts the model process. Only the main thread can do this: elsewhere there are no
    signals, and `work_until_asked` is what to call. Raises as that does.
    """
    # held to the very end: a signal while things are put away must not cut that short
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        return await work_until_asked(task, display, signals, command)


async def work_until_asked(
    task: DrainOptions, display: Display, wishes: Wishes, command: tuple[str, ...] = COMMAND
) -> Outcome:
    """Drain the queue of `task.db`; the first of `wishes` ends it after the turn, the next at once.

    Raises `WorkerRunning` if another worker drains it, and any other `EnvironmentFault` that
    keeps it from going on; the job in hand is back in the queue then.
    """
    preloading(task.engine.preload_blas)
    try:
        make_folder(task.logs)
    except OSError as error:
        raise EnvironmentFault(f"{task.logs}: no folder for the log: {error.strerror}") from None
    async with StoreThread(task.db) as store:
        return await _work(task, store, wishes, display, command)


async def _work(
    task: DrainOptions,
    store: StoreThread,
    wishes: Wishes,
    display: Display,
    command: tuple[str, ...],
) -> Outcome:
    """Drain under the lock, between the beginning and the end of a `runs` row."""
    began = time.monotonic()
    async with _patient_lock(task.db):
        recovered = await store.call(queue.recover)
        if recovered:
            display.note(
                f"going on where an earlier worker was: {format_count(recovered, 'job')} requeued"
            )
        settings = msgspec.json.encode(task, enc_hook=str).decode()
        run_id = await store.call(queue.start_run, settings, {"mh-batch": version("mh-batch")})
        host = ModelSupervisor(task.logs / "worker.log", task.engine, task.hang_seconds, command)
        drain = Drain(task, run_id, store, host, display)
        reason = EndReason.ERROR
        try:
            with display:
                async with host:
                    beside: tuple[Beside, ...] = (
                        partial(_heed, wishes, drain, display),
                        partial(_notice, store, drain),
                        partial(_heed_clock, task, drain, display),
                    )
                    reason = await _until_stopped(drain, beside)
        finally:
            await store.call(_close_run, run_id, drain.tally.jobs, reason)
        return Outcome(reason, drain.tally, run_id, time.monotonic() - began)


@asynccontextmanager
async def _patient_lock(path: Path) -> AsyncGenerator[None, None]:
    """Hold the lock of the database; one that is held for a moment only is waited for.

    (`mh-batch cancel` does, to see whether there is a worker.) Raises `WorkerRunning`.
    """
    with ExitStack() as held:
        for step in range(LOCK_STEPS + 1):
            try:
                held.enter_context(worker_lock(path))
                break
            except WorkerRunning:
                if step == LOCK_STEPS:
                    raise
            await anyio.sleep(LOCK_STEP_SECONDS)
        yield


def _close_run(db: Database, run_id: int, jobs_done: int, reason: EndReason) -> None:
    """Put back what was claimed and not finished, and note the end of the run."""
    # a store that fails here must not hide why the drain ended; the next worker recovers anyway
    with suppress(StoreUnusable):
        queue.recover(db)
        queue.finish_run(db, run_id, jobs_done, reason)


async def _until_stopped(drain: Drain, beside: Sequence[Beside]) -> EndReason:
    """Drain until the queue is empty or until one of the calls `beside` it says otherwise."""
    reason = EndReason.KILLED
    fault: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_set, drain.stop.now, tasks.cancel_scope)
        for call in beside:
            tasks.start_soon(call)
        try:
            reason = await drain.run(tasks)
        except Exception as error:  # noqa: BLE001
            # raised after the group, which would wrap it into an exception group
            fault = error
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault
    return reason


async def _cancel_when_set(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _heed(wishes: Wishes, drain: Drain, display: Display) -> None:
    async for _ in wishes:
        at_once = drain.stop.at_once
        if drain.stop.ask():
            after = " after this turn; once more to stop now"
            display.note(f"stopping{'' if at_once else after}")


async def _heed_clock(task: DrainOptions, drain: Drain, display: Display) -> None:
    """End the drain after the current turn once the clock shows the time it was given."""
    if task.until is None:
        return
    await wait_for_clock(next_showing(task.until, time.time()))
    display.note(f"it is {task.until:%H:%M}: stopping after this turn")
    drain.stop.end(EndReason.UNTIL)


async def _notice(store: StoreThread, drain: Drain) -> None:
    """Tell the drain when others write to the database, within a second."""
    seen = None
    while True:
        try:
            latest = await store.call(queue.data_version)
            if latest != seen:
                await drain.notice()
                seen = latest
        except (StoreUnusable, sqlite3.Error):
            # a drain that waits for work meets the fault when it looks, any other when it writes
            drain.wake()
        await anyio.sleep(NOTICE_SECONDS)
