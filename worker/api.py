"""The Python API: `submit`, `drain` and `results`, for notebooks and scripts.

Nothing is read from `mh-batch.toml` or the environment: what a call leaves out has its built-in
default. Errors are those of `mh_batch.jobs.errors`.
"""

import math
import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import msgspec
from anyio.from_thread import start_blocking_portal

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import FinishedJob, NewBatch
from mh_batch.jobs.results.selection import Rescued, Selection, choose
from mh_batch.jobs.settings import EngineOptions, Settings, apply, profile_values
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.connection import open_reader, open_store, require_store
from mh_batch.store.lookup import find_batch, latest_batch
from mh_batch.store.reports.results import finished_jobs
from mh_batch.worker.acceptance.function import AcceptFunction
from mh_batch.worker.draining.run import Outcome, work_until_stopped
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.runtime.signals import handling
from mh_batch.worker.runtime.stop import EndReason
from mh_batch.worker.submission.source import batch_name
from mh_batch.worker.submission.submission import Rules, Submitted, submit_stream
from mh_batch.worker.submission.tables.source import Source, open_source

from .config import named_model
from .options import DrainOptions, WorkerOptions, shared_fields
from .python_words import python_words

StrPath = str | os.PathLike[str]
Conversation = Mapping[str, Any] | str
"""The content of a line of an input file, in any of its shapes; a string is a `prompt`."""


class Options(WorkerOptions, frozen=True, kw_only=True):
    """The options of `mh-batch work`, by the same names.

    `parallel` conversations decode together. A batch keeps the number that it began with; with
    `mix` it goes on with this one.
    A drain ends after `max_jobs` jobs (`None`: any number), when the local clock next shows `until`
    (`None`: never), and when the queue is empty, unless it is to `watch` for new work. `artifacts`
    says which attempts leave files: `all`, `retries` or `off`. The model process is replaced
    between jobs once it holds more than `recycle_bytes` (`None`: never), and killed if it gives no
    sign of life for `hang_seconds`; after `max_crashes` deaths on one attempt its job is failed.
    `engine` is how the model uses memory. `parallel` conversations decode together; a batch keeps
    the number it began with, unless `mix` lets it go on with another. `accept` names a function
    that checks answers as `FILE.py:function`, and a check may take `accept_seconds`.
    `allow_variance` uses slots also where the self-test has
    failed: there an answer may depend on what runs beside it.

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
def submit(
    db: StrPath,
    conversations: StrPath | Iterable[Conversation],
    *,
    name: str | None = None,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    profile: str | None = None,
    priority: int = 0,
    again: bool = False,
) -> Submitted:
    """Queue conversations as one batch, all or none; the database is created if needed.

    `conversations` is the path of a file (JSON lines, or a table with the columns of a line), or an
    iterable of mappings or strings. `name` defaults to the file's name, or `python`. `model` is for
    lines that name none; `None` leaves it to `drain`. `settings` by flat name, such as
    `max_tokens`, win over the `profile`. The `warning` of the return value names models that were
    not found locally.

    Raises `BadLines` naming each invalid line, `SettingsError`, and `AlreadySubmitted` if the same
    lines are a batch already, unless `again` is true.
    """
    values = {**(profile_values(profile) if profile else {}), **(settings or {})}
    stream: AbstractContextManager[BinaryIO | Source]
    if isinstance(conversations, str | os.PathLike):
        source = os.fspath(conversations)
        name, stream = name or batch_name(source), open_source(source)
    else:
        source = name = name or "python"
        # iterating over a single mapping would yield its keys
        lines = [conversations] if isinstance(conversations, Mapping) else conversations
        stream = _as_lines(lines, source)
    batch = NewBatch(
        name=name,
        source=source,
        settings=apply(Settings(), values),
        model=named_model(model),
        priority=priority,
    )
    with stream as file, closing(open_store(Path(db))) as store:
        return submit_stream(store, file, batch, Rules(again=again))


@python_words()
def drain(
    db: StrPath,
    model: str | None = None,
    options: Options = DEFAULT_OPTIONS,
    *,
    accept: AcceptFunction | str | None = None,
) -> Summary:
    """Answer the queued conversations until none is left; return the outcome.

    `Options(parallel=4)` answers four at once. The call blocks, also in a notebook. `model` is for
    jobs that name none: `demo`, a folder, or a hub name. Ctrl-C (a notebook's interrupt) ends it
    after the running attempts, a second one at once; finished work is kept, and the next drain
    continues.

    `accept` is a function that gets each job and good answer as dictionaries and returns `None`, or
    the reason why the answer is not accepted: it is tried again then. One that can be imported from
    a file by itself runs in processes of its own, and is killed after `options.accept_seconds`; any
    other (a lambda, one of a notebook or of the script that runs) is called in a thread. A string
    is a `FILE.py:function`; `None` leaves it to `options.accept`.

    Raises `InputError` naming an option with an invalid value, `StoreUnusable` if there is no
    database, `WorkerRunning` if another worker drains it, and any other `EnvironmentFault` that
    keeps it from going on.
    """
    path = Path(db)
    checked = shared_fields(_checked(options), WorkerOptions)
    require_store(path)
    logs = options.logs or path.resolve().parent / "logs"
    drain_options = DrainOptions(path, named_model(model), logs, **checked)
    with Path(os.devnull).open("w") if options.quiet else nullcontext(sys.stderr) as out:
        return _summary(_drain(drain_options, PlainDisplay(out, path), accept))


def results(
    db: StrPath,
    batch: int | str | None = None,
    statuses: Collection[str] = FINISHED,
    rescued: Rescued = "keep",
) -> Iterator[FinishedJob]:
    """Iterate over the finished jobs of a batch in input order, with flat memory.

    `batch` is its number or name; `None` takes the latest. `rescued` says whether to keep or drop
    conversations with a forced final answer, or to return only these. The results are a snapshot of
    the database, whatever a worker adds meanwhile. Raises `UnknownTarget` if there is no such
    batch, and `InputError` for a status that a finished job cannot have.
    """
    wanted = Selection.parse(",".join(statuses), None, (), rescued)
    with closing(open_reader(Path(db))) as reader:
        chosen = latest_batch(reader) if batch is None else find_batch(reader, str(batch))
    return _finished(Path(db), chosen.id, wanted.statuses or FINISHED, rescued)


@contextmanager
def _as_lines(conversations: Iterable[Conversation], source: str) -> Iterator[BinaryIO]:
    """Open conversations as a file of JSON lines; raises `InputError` if one cannot be JSON."""
    with tempfile.TemporaryFile() as out:
        for number, item in enumerate(conversations, start=1):
            line = {"prompt": item} if isinstance(item, str) else item
            try:
                out.write(msgspec.json.encode(line) + b"\n")
            except (TypeError, ValueError) as error:
                raise InputError(f"{source}:{number}: cannot be JSON: {error}") from None
        out.seek(0)
        yield out


def _finished(
    db: Path, batch_id: int, statuses: Collection[Status], rescued: Rescued
) -> Iterator[FinishedJob]:
    with closing(open_reader(db)) as reader:
        for job in finished_jobs(reader, batch_id, sorted(statuses)):
            if (kept := choose(job, rescued)) is not None:
                yield kept


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


def _drain(
    options: DrainOptions, display: PlainDisplay, accept: AcceptFunction | str | None
) -> Outcome:
    """Drain on a thread of its own and pass every Ctrl-C on to it.

    In a notebook, an event loop is running on this thread already.
    """
    send, stop_signals = anyio.create_memory_object_stream[None](math.inf)
    with send, stop_signals, start_blocking_portal() as portal:

        def pass_on(*_: object) -> None:
            portal.start_task_soon(send.send_nowait, None)

        with handling(pass_on, signal.SIGINT):
            play = partial(work_until_stopped, options, display, stop_signals, accept=accept)
            return portal.call(play)


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
