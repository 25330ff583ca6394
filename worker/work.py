"""`mh-batch work`: lock, recover, drain, and an honest end whatever happens."""

import signal
from importlib.metadata import version

import anyio
import msgspec
from anyio.abc import TaskStatus

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.store import queue
from mh_batch.store.lock import worker_lock

from .display import Display
from .drain import Drain, EndReason, Tally, Work
from .model_client import COMMAND
from .model_host import ModelHost
from .store_thread import StoreThread


class Outcome(msgspec.Struct, frozen=True):
    """How a drain went."""

    reason: EndReason
    tally: Tally

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before the queue was empty."""
        return self.reason in (EndReason.STOPPED, EndReason.KILLED)

    @property
    def exit_code(self) -> int:
        """0 if every finished job is done, else 1."""
        return 0 if self.tally.all_well else 1


async def work(task: Work, display: Display, command: tuple[str, ...] = COMMAND) -> Outcome:
    """Drain the queue of `task.db`; the first SIGINT or SIGTERM ends it after the current turn.

    `command` starts the model process.

    Raises `WorkerRunning` if another worker drains it, and any other `EnvironmentFault` that
    keeps it from going on; the job in hand is back in the queue then.
    """
    task.logs.mkdir(parents=True, exist_ok=True)
    async with StoreThread(task.db) as store:
        with worker_lock(task.db):
            recovered = await store.call(queue.recover)
            if recovered:
                display.note(f"going on where an earlier worker was: {recovered} job(s) requeued")
            settings = msgspec.json.encode(task, enc_hook=str).decode()
            run_id = await store.call(queue.start_run, settings, {"mh-batch": version("mh-batch")})
            host = ModelHost(task.logs / "worker.log", command)
            with display:
                return await _drain(Drain(task.model, store, host, run_id, display), display)


async def _drain(drain: Drain, display: Display) -> Outcome:
    """Run one drain between its `runs` row's beginning and end."""
    reason = EndReason.ERROR
    try:
        async with drain.host:
            reason = await _until_stopped(drain, display)
    finally:
        await drain.store.call(queue.finish_run, drain.run_id, drain.tally.jobs, reason)
    return Outcome(reason, drain.tally)


async def _until_stopped(drain: Drain, display: Display) -> EndReason:
    """Drain until the queue is empty, or until signals say otherwise."""
    reason = EndReason.KILLED
    fault: EnvironmentFault | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(_heed_signals, drain, display)
        tasks.start_soon(_cancel_when_set, drain.stop.now, tasks.cancel_scope)
        try:
            reason = await drain.run()
        except EnvironmentFault as error:
            # raised after the group: a task group would wrap it into an exception group
            fault = error
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault
    return reason


async def _cancel_when_set(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _heed_signals(
    drain: Drain, display: Display, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if drain.stop.ask():
                display.note("stopping after this turn; once more to stop now")
