"""From a JSONL file to a batch: every line lands, or none does and each bad one is named."""

import hashlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import AlreadySubmitted, BadLine, BadLines, InputError, Interrupted
from mh_batch.jobs.jsonl.lines import LineReader
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.jobs.settings import MAX_LINE_MIB
from mh_batch.store.queue.resubmission import any_known, known_batches
from mh_batch.store.queue.submit import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    EncodedLine,
    Submission,
    refuse_known,
)
from mh_batch.worker.runtime.signals import handling

from .rejects import Rejects, rejects_path
from .unknown_models import UnknownModels

SHOWN_BAD_LINES = 1000
HASH_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Takes how many bytes of a file were read, and how many lines."""


class Rules(msgspec.Struct, frozen=True):
    """What to do with lines that are bad, and with a file that is a batch already.

    `skip_bad` lands the other lines, and keeps the bad ones in a file if `rejects` says so. `again`
    makes another batch of the same file. Lines longer than `max_line_mib` MiB are bad.
    """

    skip_bad: bool = False
    again: bool = False
    rejects: bool = True
    max_line_mib: int = MAX_LINE_MIB


DEFAULT_RULES = Rules()


class Submitted(msgspec.Struct, frozen=True):
    """A batch that landed; `rejects` has the lines that did not, `None` if all did.

    `warning` tells of lines that name models which are none here, `None` if there are none.
    """

    batch_id: int
    jobs: int
    rejected: int = 0
    rejects: Path | None = None
    warning: str | None = None


class Chunk(NamedTuple):
    """Some lines of a file: jobs, refusals, and all of them as they were, by number.

    A line is `None` where it is too long, or nobody will ask for it.
    """

    jobs: list[EncodedLine]
    refused: list[BadLine]
    raw: dict[int, bytes | None]


def submit_stream(
    db: Database,
    stream: BinaryIO,
    batch: NewBatch,
    rules: Rules = DEFAULT_RULES,
    progress: Progress | None = None,
) -> Submitted:
    """Submit the lines of a stream as one batch.

    Raises `BadLines` naming the lines that cannot become jobs, `AlreadySubmitted` for a file that
    is a batch, and `Interrupted` after SIGINT or SIGTERM; nothing landed then.
    """
    _check_override(batch)
    unknown_models = UnknownModels(batch)
    landed: Submitted | None = None
    try:
        with _terminable():
            if not rules.again:
                _refuse_known_file(db, stream, batch)
            most = rules.max_line_mib << 20
            reader = LineReader(stream, batch.source, batch.settings.context, most)
            with (
                Submission.begin(db, batch) as submission,
                Rejects(_rejects_path(batch, rules)) as rejects,
            ):
                bad = _load(reader, submission, rejects, unknown_models, progress)
                if rejects.count and not (rules.skip_bad and submission.count):
                    raise BadLines(batch.source, bad, rejects.count)
                with _undivided():
                    # before the batch: what was left out must be known wherever the batch is
                    rejects.keep()
                    jobs = submission.publish(reader.sha256, only_new=not rules.again)
                    path = rejects.path if rejects.count else None
                    landed = Submitted(
                        submission.batch_id, jobs, rejects.count, path, unknown_models.warning
                    )
    except KeyboardInterrupt:
        what = f"batch {landed.batch_id} has landed" if landed else "nothing of it landed"
        raise Interrupted(f"{batch.source}: stopped; {what}") from None
    return landed


def _check_override(batch: NewBatch) -> None:
    """Refuse to ignore the models of lines with none to put into their place."""
    if batch.override_model and batch.model is None:
        raise InputError("--override-model: name the model with --model")


def _rejects_path(batch: NewBatch, rules: Rules) -> Path | None:
    return rejects_path(batch.source) if rules.skip_bad and rules.rejects else None


def _load(
    reader: LineReader,
    submission: Submission,
    rejects: Rejects,
    unknown_models: UnknownModels,
    progress: Progress | None,
) -> list[BadLine]:
    """Write the jobs of a file and its refused lines; return the first of those."""
    bad: list[BadLine] = []
    for chunk in chunks(reader, submission.encoded, keep_raw=rejects.path is not None):
        refused = chunk.refused + submission.add(chunk.jobs)
        unknown_models.take(chunk.jobs)
        refused.sort(key=lambda line: line.number)
        for line in refused:
            rejects.add(line, chunk.raw[line.number])
        bad += refused[: SHOWN_BAD_LINES - len(bad)]
        if progress is not None:
            progress(reader.bytes_read, reader.lines)
        # before the next one is read: one long line is all that there is room for
        del chunk
    return bad


def chunks(
    reader: LineReader, encode: Callable[[JobLine], EncodedLine], *, keep_raw: bool
) -> Iterator[Chunk]:
    """Yield the lines of a file in portions of bounded size, whatever the length of a line.

    Each is encoded before the next is read, and kept as it was only where `keep_raw` says so.
    """
    chunk, begin = Chunk([], [], {}), 0
    for line in reader:
        raw, number = reader.take_raw(), line.number
        chunk.raw[number] = raw if keep_raw else None
        del raw
        if isinstance(line, JobLine):
            chunk.jobs.append(encode(line))
        else:
            chunk.refused.append(line)
        del line
        if len(chunk.raw) >= CHUNK_ROWS or reader.bytes_read - begin >= CHUNK_BYTES:
            yield chunk
            del chunk
            chunk, begin = Chunk([], [], {}), reader.bytes_read
    if chunk.raw:
        yield chunk


def batch_to_go_on_with(db: Database, known: AlreadySubmitted, batch: NewBatch) -> int:
    """Return the batch that `batch` would be again, with the same settings.

    Raises `known` if there is none.
    """
    for row in known_batches(db, known.source_sha256):
        if not row.differences(batch):
            return row.id
    raise known


def _refuse_known_file(db: Database, stream: BinaryIO, batch: NewBatch) -> None:
    """Raise `AlreadySubmitted` before any work, where a file can be read twice."""
    if stream.seekable() and any_known(db):
        begin = stream.tell()
        digest = hashlib.sha256()
        while block := stream.read(HASH_BYTES):
            digest.update(block)
        stream.seek(begin)
        refuse_known(db, digest.hexdigest(), batch)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: with a `KeyboardInterrupt` that cleans up."""
    with handling(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _undivided() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is over: it is short, and happens as a whole.

    SIGINT stays ignored where it is: so a shell starts what a script runs in the background.
    """
    came: list[int] = []
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    held = (signal.SIGTERM,) if ignored else (signal.SIGINT, signal.SIGTERM)
    with handling(lambda number, _: came.append(number), *held):
        yield
    if came:
        raise KeyboardInterrupt


def batch_name(source: str) -> str:
    """Return what a batch without a name of its own is called: as its file, less the ending."""
    return "stdin" if source == "-" else Path(source).stem


@contextmanager
def open_source(source: str) -> Iterator[BinaryIO]:
    """Open a file for reading, `-` for standard input; raises `InputError` in one clear line."""
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise InputError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{source}: a folder, not a file of JSON lines") from None
    except PermissionError:
        raise InputError(f"{source}: no permission to read it") from None
