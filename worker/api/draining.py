"""`drain` and `adrain`: answer what is queued, in a script, a notebook or a running loop."""

import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.settings import EngineOptions
from mh_batch.jobs.status import Status
from mh_batch.store.connection import require_store
from mh_batch.worker.acceptance.function import AcceptFunction
from mh_batch.worker.draining.run import Outcome, work_until_stopped
from mh_batch.worker.model_choice import full_name
from mh_batch.worker.options import DrainOptions, WorkerOptions, shared_fields
from mh_batch.worker.runtime.signals import handling
from mh_batch.worker.runtime.stop import EndReason

from .progress import Listener, OnProgress, Progress, ProgressDisplay
from .words import python_words

StrPath = str | os.PathLike[str]


class Options(WorkerOptions, frozen=True, kw_only=True):
    """The options of `mh-batch work`, by the same names.

    `parallel` conversations decode together. A batch keeps the number that it began with; with
    `mix` it goes on with this one.
    A drain ends after `max_jobs` jobs (`None`: any number), when the local clock next shows `until`
    (`None`: never), and when the queue is empty, unless it is to `watch` for new work. `artifacts`
    says which attempts leave files: `all`, `retries` or `off`. The model process is replaced
    between jobs once it holds more than `recycle_bytes` (`None`: never), and killed if it gives no
    sign of life for `hang_seconds`; after `max_crashes` deaths on one attempt its job is failed.
    `engine` is how the model uses memory. `accept` names a function that checks answers as
    `FILE.py:function`, and a check may take `accept_seconds`. `allow_variance` uses slots also
    where the self-test has failed: there an answer may depend on what runs beside it.

    `logs` is the folder of the log and of those files; `None` is the one beside the database.
    `quiet` suppresses the progress lines on standard error.
    """

    logs: Path | None = None
    quiet: bool = False


DEFAULT_OPTIONS = Options()


class Summary(msgspec.Struct, frozen=True):
    """The outcome of a drain.

    `reason` says why it ended, `run_id` is its row in `runs`. `ended` counts the finished jobs by
    status, `batches` are their batches. `tokens` counts all generated tokens, retries included;
    the drain took `seconds`. `tokens_per_second` is the decode speed, `None` if nothing was
    decoded. `rescued` counts the done jobs with a forced final answer.
    """

    reason: EndReason
    run_id: int
    ended: Mapping[Status, int]
    batches: tuple[int, ...]
    tokens: int
    tokens_per_second: float | None
    seconds: float
    all_well: bool
    """Whether the drain was not stopped and no job failed or is incomplete."""
    rescued: int = 0


@python_words()
def drain(
    db: StrPath,
    model: str | None = None,
    options: Options = DEFAULT_OPTIONS,
    *,
    adapter: StrPath | None = None,
    accept: AcceptFunction | str | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Answer the queued conversations until none is left; return the outcome.

    `Options(parallel=4)` answers four at once. The call blocks, also in a notebook. `model` is for
    jobs that name none: `demo`, a folder, or a hub name; `adapter` is for that model. Ctrl-C (a
    notebook's interrupt) ends it after the running attempts, a second one at once; finished work is
    kept, and the next drain continues.

    `accept` is a function that gets each job and good answer as dictionaries and returns `None`, or
    the reason why the answer is not accepted: it is tried again then. One that can be imported from
    a file by itself runs in processes of its own, and is killed after `options.accept_seconds`; any
    other (a lambda, one of a notebook or of the script that runs) is called in a thread. A string
    is a `FILE.py:function`; `None` leaves it to `options.accept`.

    `on_progress` is called with a `Progress` after each finished job, in the thread of the caller.
    The drain does not wait for it. After an error in it, which is a warning, it is called no more.

    Raises `InputError` naming an option with an invalid value, `StoreUnusable` if there is no
    database, `WorkerRunning` if another worker drains it, and any other `EnvironmentFault` that
    keeps it from going on.
    """
    listener = Listener(on_progress)
    with _Running.open(db, full_name(model, adapter), options, accept) as running:
        with handling(lambda *_: running.stop(), signal.SIGINT):
            running.begin()
            while (progress := running.next()) is not None:
                listener.tell(progress)
        return _summary(running.outcome())


async def adrain(
    db: StrPath,
    model: str | None = None,
    options: Options = DEFAULT_OPTIONS,
    *,
    adapter: StrPath | None = None,
    accept: AcceptFunction | str | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Answer the queued conversations like `drain`, while the running loop goes on.

    The drain has a thread of its own; `on_progress` is called in that of the loop. Once this call
    is cancelled, the drain ends at once: finished work is kept, and the next one continues. No
    signal is handled here. Raises what `drain` raises.
    """
    with python_words():
        listener = Listener(on_progress)
        with _Running.open(db, full_name(model, adapter), options, accept) as running:
            running.begin()
            try:
                # a thread that waits after a cancellation ends with the drain
                next_one = partial(anyio.to_thread.run_sync, running.next, abandon_on_cancel=True)
                while (progress := await next_one()) is not None:
                    listener.tell(progress)
            except anyio.get_cancelled_exc_class():
                running.stop()
                running.stop()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(running.wait)
                raise
            return _summary(running.outcome())


class _Running:
    """A drain on a thread of its own: in a notebook, a loop is running on the caller's already."""

    def __init__(
        self,
        portal: BlockingPortal,
        options: DrainOptions,
        out: TextIO,
        accept: AcceptFunction | str | None,
    ) -> None:
        self._portal = portal
        self._options = options
        self._out = out
        self._accept = accept
        self._send, self._stops = anyio.create_memory_object_stream[None](math.inf)
        self._updates = SimpleQueue[Progress | None]()
        self._future = Future[Outcome]()

    @classmethod
    @contextmanager
    def open(
        cls,
        db: StrPath,
        model: str | None,
        options: Options,
        accept: AcceptFunction | str | None,
    ) -> "Iterator[_Running]":
        """Prepare a drain, which is to begin and to end in the block."""
        path = Path(db)
        checked = shared_fields(_checked(options), WorkerOptions)
        require_store(path)
        logs = options.logs or path.resolve().parent / "logs"
        drain_options = DrainOptions(path, model, logs, **checked)
        with _output(options) as out, start_blocking_portal() as portal:
            running = cls(portal, drain_options, out, accept)
            with running._send, running._stops:
                yield running

    def begin(self) -> None:
        """Begin the drain."""
        display = ProgressDisplay(self._out, self._options.db, self._updates.put)
        work = partial(work_until_stopped, accept=self._accept)
        self._future = self._portal.start_task_soon(work, self._options, display, self._stops)
        self._future.add_done_callback(lambda _: self._updates.put(None))

    def next(self) -> Progress | None:
        """Wait for the next finished job; `None` once the drain is over."""
        return self._updates.get()

    def stop(self) -> None:
        """Ask the drain to end after the running attempts; a second time, at once."""
        self._portal.start_task_soon(self._send.send_nowait, None)

    def wait(self) -> None:
        """Wait until the drain is over."""
        wait([self._future])

    def outcome(self) -> Outcome:
        """Return how the drain ended, or raise what it raised."""
        return self._future.result()


@contextmanager
def _output(options: Options) -> Iterator[TextIO]:
    """Open where the progress lines go."""
    if not options.quiet:
        yield sys.stderr
        return
    with Path(os.devnull).open("w") as out:
        yield out


def _checked(options: Options) -> WorkerOptions:
    """Return the worker's part of the options; raises `InputError` naming an invalid one."""
    values = shared_fields(options, WorkerOptions)
    if isinstance(options.engine, EngineOptions):
        # a struct would be accepted without being checked
        values["engine"] = msgspec.structs.asdict(options.engine)
    try:
        return msgspec.convert(values, WorkerOptions)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        raise InputError(f"options: {where.removesuffix('`')}: {reason}") from None


def _summary(outcome: Outcome) -> Summary:
    tally = outcome.tally
    return Summary(
        reason=outcome.reason,
        run_id=outcome.run_id,
        ended=dict(tally.ended),
        batches=tuple(sorted(tally.batches)),
        tokens=tally.tokens,
        tokens_per_second=tally.tokens_per_second,
        seconds=outcome.seconds,
        all_well=outcome.exit_code == 0,
        rescued=tally.rescued,
    )
