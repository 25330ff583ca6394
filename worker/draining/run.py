"""`mh-batch work`: lock the database, recover, drain, and record how it ended."""

import signal
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import (
    EnvironmentFault,
    Interrupted,
    MhBatchError,
    StoreUnusable,
    WorkerRunning,
)
from mh_batch.jobs.files import make_folder
from mh_batch.store import queue
from mh_batch.store.lock import worker_lock
from mh_batch.worker.acceptance.checker import Checker
from mh_batch.worker.acceptance.function import AcceptFunction
from mh_batch.worker.model_process.client import COMMAND
from mh_batch.worker.model_process.preload import preloading
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.stop import EndReason, next_showing, wait_for_clock
from mh_batch.worker.runtime.store_thread import StoreThread
from mh_batch.worker.text.format import format_count

from .context import DrainContext
from .loop import Drain
from .reporter import Display, OnIdle, Tally, nothing_to_do

NOTICE_SECONDS = 0.5
"""How often to check whether another process wrote to the database; that reads no table."""

LOCK_STEPS = 10
LOCK_STEP_SECONDS = 0.1
"""How often, and how long apart, a worker tries again to take the lock."""

StopSignals = AsyncIterator[object]
"""Requests to stop as they arrive: signals mostly."""

Watcher = Callable[[], Coroutine[Any, Any, None]]


class Outcome(msgspec.Struct, frozen=True):
    """How a drain ended; `run_id` is its row in `runs`, `seconds` how long it took.

    `fault` is what kept it from going on, `None` if nothing did.
    """

    reason: EndReason
    tally: Tally
    run_id: int
    seconds: float
    fault: EnvironmentFault | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before the queue was empty."""
        return self.reason in (EndReason.STOPPED, EndReason.KILLED)

    @property
    def exit_code(self) -> int:
        """The fault's; else 0 if it was not stopped and no job failed or is incomplete, else 1."""
        if self.fault is not None:
            return self.fault.exit_code
        return 0 if self.tally.all_well and not self.stopped else 1


async def work(
    options: DrainOptions,
    display: Display,
    command: tuple[str, ...] = COMMAND,
    *,
    raises: bool = True,
    accept: AcceptFunction | str | None = None,
    on_idle: OnIdle = nothing_to_do,
) -> Outcome:
    """Drain the queue of `options.db`; the first SIGINT or SIGTERM ends it after this attempt.

    While a model is loaded or waited for, no attempt runs, and it ends at once. SIGINT counts
    even if the process was started to ignore it, as `&` in a script does.

    `command` starts the model process. Signals need the main thread; elsewhere call
    `work_until_stopped`. `raises`, `accept` and `on_idle` are as for that.
    """
    # held to the very end: a signal must not interrupt the cleanup
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        return await work_until_stopped(
            options, display, signals, command, raises=raises, accept=accept, on_idle=on_idle
        )


async def work_until_stopped(
    options: DrainOptions,
    display: Display,
    stop_signals: StopSignals,
    command: tuple[str, ...] = COMMAND,
    *,
    raises: bool = True,
    accept: AcceptFunction | str | None = None,
    on_idle: OnIdle = nothing_to_do,
) -> Outcome:
    """Drain the queue of `options.db`; a stop signal ends it after this attempt, a second now.

    `accept` checks good answers in place of the function that `options.accept` names, `on_idle` is
    called when the queue has run empty and the drain waits for new work. Raises
    `InputError` if the function cannot be used, and `WorkerRunning` if another worker drains the
    queue. Any other `EnvironmentFault` that keeps a begun drain from going on is raised or, without
    `raises`, in the outcome; the current job is back in the queue then.
    """
    preloading(options.engine.preload_blas)
    try:
        make_folder(options.logs)
    except OSError as error:
        raise EnvironmentFault(f"{options.logs}: no folder for the log: {error.strerror}") from None
    began = time.monotonic()
    seconds, slots = options.accept_seconds, options.parallel
    checks = accept or options.accept, options.log_path, seconds, slots, display.note
    async with Checker(*checks) as checker, AsyncExitStack() as held:
        await _unless_stopped(stop_signals, checker.load)
        store = await held.enter_async_context(StoreThread(options.db))
        await held.enter_async_context(_patient_lock(options.db))
        recovered = await store.call(queue.recover)
        if recovered:
            display.note(
                f"continuing after an earlier worker: {format_count(recovered, 'job')} requeued"
            )
        settings = msgspec.json.encode(options, enc_hook=str).decode()
        run_id = await store.call(
            queue.start_run,
            settings,
            {"mh-batch": version("mh-batch")},
            parallel=options.parallel,
            accept=checker.record,
        )
        supervisor = ModelSupervisor(options.log_path, options, command)
        context = DrainContext(options, run_id, store, supervisor, display)
        drain = Drain(context, checker, on_idle)
        reason, fault = await _drain(context, drain, stop_signals)
    if raises and fault is not None:
        raise fault
    return Outcome(reason, drain.tally, run_id, time.monotonic() - began, fault)


async def _drain(
    context: DrainContext, drain: Drain, stop_signals: StopSignals
) -> tuple[EndReason, EnvironmentFault | None]:
    """Drain, and record the end of the run whatever happens."""
    reason, fault = EndReason.ERROR, None
    watchers: tuple[Watcher, ...] = (
        partial(_handle_signals, stop_signals, drain, context.display),
        partial(_watch_database, context.store, drain),
        partial(_watch_clock, context, drain),
    )
    try:
        with context.display:
            async with context.supervisor:
                reason = await _run_with(drain, watchers)
    except EnvironmentFault as error:
        fault = error
    finally:
        await context.store.call(_close_run, context.run_id, drain.tally.jobs, reason)
    return reason, fault


async def _unless_stopped(stop_signals: StopSignals, step: Callable[[], Awaitable[None]]) -> None:
    """Await `step`; raises `Interrupted` if a stop signal comes first, which ends it."""
    stopped, fault = False, None

    async def end() -> None:
        nonlocal stopped
        async for _ in stop_signals:
            stopped = True
            tasks.cancel_scope.cancel()
            return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        try:
            await step()
        except MhBatchError as error:
            fault = error  # outside the group, which would wrap it
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault
    if stopped:
        raise Interrupted("stopped while the accept function was loaded; nothing was begun")


@asynccontextmanager
async def _patient_lock(path: Path) -> AsyncGenerator[None, None]:
    """Hold the lock of the database; raises `WorkerRunning`.

    Others may hold it for a moment: `mh-batch cancel` does, to see whether there is a worker.
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
    """Requeue claimed jobs that are not finished, and record the end of the run."""
    # a store that fails here must not hide why the drain ended; the next worker recovers anyway
    with suppress(StoreUnusable):
        queue.recover(db)
        queue.finish_run(db, run_id, jobs_done, reason)


async def _run_with(drain: Drain, watchers: Sequence[Watcher]) -> EndReason:
    """Drain until the queue is empty or one of the watchers ends it."""
    reason = EndReason.KILLED
    fault: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_set, drain.stop.now, tasks.cancel_scope)
        for watch in watchers:
            tasks.start_soon(watch)
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


async def _handle_signals(stop_signals: StopSignals, drain: Drain, display: Display) -> None:
    async for _ in stop_signals:
        at_once = drain.stop.at_once
        if drain.stop.request():
            _show_stopping(drain, display, at_once=at_once)


def _show_stopping(drain: Drain, display: Display, *, at_once: bool) -> None:
    """Say what a drain that is asked to stop still waits for."""
    wait = drain.stop_wait()
    if at_once or not str(wait):
        display.note("stopping")
    else:
        display.note(f"stopping after {wait}; once more to stop now")
        display.stopping(drain.stop_wait)


async def _watch_clock(context: DrainContext, drain: Drain) -> None:
    """End the drain after the running attempts once the clock shows `until`."""
    until = context.options.until
    if until is None:
        return
    await wait_for_clock(next_showing(until, time.time()))
    context.display.note(f"it is {until:%H:%M}")
    at_once = drain.stop.at_once
    drain.stop.end(EndReason.UNTIL)
    _show_stopping(drain, context.display, at_once=at_once)


async def _watch_database(store: StoreThread, drain: Drain) -> None:
    """Notify the drain when other processes write to the database."""
    seen = None
    while True:
        try:
            latest = await store.call(queue.data_version)
            if latest != seen:
                await drain.database_changed()
                seen = latest
        except (StoreUnusable, sqlite3.Error):
            # a waiting drain sees the fault when it looks, any other when it writes
            drain.wake()
        await anyio.sleep(NOTICE_SECONDS)
