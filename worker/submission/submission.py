"""From a file to a batch: all its lines are queued, or none is and the bad ones are named."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import InputError, Interrupted
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import MAX_LINE_MIB
from mh_batch.store.queue.resubmission import any_batch, check_resubmission
from mh_batch.store.queue.submit import Submission
from mh_batch.worker.runtime.signals import handling

from .faults import Faults
from .output_check import CHECKS
from .rejects import Rejects, rejects_path
from .source import chunks
from .tables.source import Lines, Source
from .unknown_models import UnknownModels

Progress = Callable[[int, int], None]
"""Takes how many bytes of a file were read, and how many lines."""


class Rules(msgspec.Struct, frozen=True):
    """What to do with bad lines, and with a file that is already a batch.

    `skip_bad` queues the other lines and, with `rejects`, writes the bad ones to a file. `again`
    submits the same file as another batch. Lines longer than `max_line_mib` MiB are bad.
    `ignore_unknown` leaves unknown keys of OpenAI bodies out; else a line with one is bad.
    """

    skip_bad: bool = False
    again: bool = False
    rejects: bool = True
    max_line_mib: int = MAX_LINE_MIB
    ignore_unknown: bool = False


DEFAULT_RULES = Rules()


class Submitted(msgspec.Struct, frozen=True):
    """A batch that was queued.

    `rejects` is the file of the lines that were not, `None` if all were. `warning` is about lines
    that name unknown models, `None` if there are none. `repeated_ids` are two lines with the
    same id of their own: then each `custom_id` is made of the line's number. `ignored` are the
    unknown keys of OpenAI bodies that were left out, with the number of lines that had them.
    """

    batch_id: int
    jobs: int
    rejected: int = 0
    rejects: Path | None = None
    warning: str | None = None
    repeated_ids: tuple[int, int] | None = None
    ignored: Mapping[str, int] = {}


def submit_stream(
    db: Database,
    stream: BinaryIO | Source,
    batch: NewBatch,
    rules: Rules = DEFAULT_RULES,
    progress: Progress | None = None,
) -> Submitted:
    """Submit the lines of a stream, or the rows of a file, as one batch.

    Raises `SettingsError` for a form of the batch that cannot be kept to, `BadLines` naming the
    lines that cannot become jobs, `AlreadySubmitted` for a file that is already a batch, and
    `Interrupted` after SIGINT or SIGTERM; then nothing was queued.
    """
    _check_override(batch)
    CHECKS.output(batch.settings.output)
    source = stream if isinstance(stream, Source) else Source(stream)
    unknown_models = UnknownModels(batch)
    submitted: Submitted | None = None
    try:
        with _terminable():
            if not rules.again:
                _check_resubmission(db, source, batch)
            most = rules.max_line_mib << 20
            ignored: Counter[str] = Counter()
            left_out = ignored if rules.ignore_unknown else None
            inherited = Inherited(batch.settings, CHECKS, batch.model, left_out)
            reader = source.lines(batch.source, inherited, most)
            with (
                Submission.begin(db, batch) as submission,
                Rejects(_rejects_path(batch, rules)) as rejects,
            ):
                faults = _load(reader, submission, rejects, unknown_models, progress)
                if rejects.count and not (rules.skip_bad and submission.count):
                    raise faults.error()
                with _uninterrupted():
                    # before the batch: where it exists, the lines that it lacks must be known
                    rejects.keep()
                    sha256 = source.options.identify(reader.sha256)
                    jobs = submission.publish(sha256, only_new=not rules.again)
                    submitted = Submitted(
                        submission.batch_id,
                        jobs,
                        rejects.count,
                        rejects.path if rejects.count else None,
                        unknown_models.warning,
                        submission.repeated_ids,
                        dict(ignored.most_common()),
                    )
    except KeyboardInterrupt:
        what = f"batch {submitted.batch_id} was queued" if submitted else "nothing of it was queued"
        raise Interrupted(f"{batch.source}: stopped; {what}") from None
    return submitted


def _check_override(batch: NewBatch) -> None:
    """Refuse to override the models of lines without a model to use instead."""
    if batch.override_model and batch.model is None:
        raise InputError("--override-model: name the model with --model")


def _rejects_path(batch: NewBatch, rules: Rules) -> Path | None:
    return rejects_path(batch.source) if rules.skip_bad and rules.rejects else None


def _load(
    reader: Lines,
    submission: Submission,
    rejects: Rejects,
    unknown_models: UnknownModels,
    progress: Progress | None,
) -> Faults:
    """Write the jobs of a file and its bad lines; return what is wrong with those."""
    faults = Faults(reader.source)
    for chunk in chunks(reader, submission.encoded, keep_raw=rejects.path is not None):
        bad = chunk.bad + submission.add(chunk.jobs)
        unknown_models.take(chunk.jobs)
        bad.sort(key=lambda line: line.number)
        for line in bad:
            rejects.add(line, chunk.raw[line.number])
            faults.add(line)
        if progress is not None:
            progress(reader.bytes_read, reader.lines)
        # freed before the next is read: there is memory for one long line only
        del chunk
    return faults


def _check_resubmission(db: Database, source: Source, batch: NewBatch) -> None:
    """Raise `AlreadySubmitted` before any work, if the file can be read twice."""
    if any_batch(db) and (sha256 := source.digest()) is not None:
        check_resubmission(db, source.options.identify(sha256), batch)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `KeyboardInterrupt` in the block, as Ctrl-C does."""
    with handling(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the short block is over, then raise `KeyboardInterrupt`.

    SIGINT stays ignored if it is: so a shell starts the background jobs of a script.
    """
    came: list[int] = []
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    held = (signal.SIGTERM,) if ignored else (signal.SIGINT, signal.SIGTERM)
    with handling(lambda number, _: came.append(number), *held):
        yield
    if came:
        raise KeyboardInterrupt
