"""From a JSONL file to a batch: every line lands, or none does and each bad one is named."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import BadLine, BadLines, InputError
from mh_batch.jobs.lines import LineReader
from mh_batch.jobs.record import JobLine, NewBatch
from mh_batch.store.submit import CHUNK_ROWS, Submission

T = TypeVar("T")

SHOWN_BAD_LINES = 1000


class Submitted(msgspec.Struct, frozen=True):
    """A batch that landed."""

    batch_id: int
    jobs: int


def submit_stream(db: Database, stream: BinaryIO, batch: NewBatch) -> Submitted:
    """Submit all lines of a stream as one batch.

    Raises `BadLines` naming the lines that cannot become jobs; nothing landed then.
    """
    reader = LineReader(stream, batch.source)
    bad: list[BadLine] = []
    total_bad = 0
    with Submission.begin(db, batch) as submission:
        for chunk in chunks(reader, CHUNK_ROWS):
            refused = [line for line in chunk if isinstance(line, BadLine)]
            jobs = [line for line in chunk if isinstance(line, JobLine)]
            refused += submission.add(jobs)
            total_bad += len(refused)
            bad += sorted(refused, key=lambda line: line.number)[: SHOWN_BAD_LINES - len(bad)]
        if total_bad:
            raise BadLines(batch.source, bad, total_bad)
        jobs_landed = submission.publish(reader.sha256)
    return Submitted(submission.batch_id, jobs_landed)


def chunks(lines: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter (`itertools.batched` is 3.12's)."""
    iterator = iter(lines)
    while chunk := list(islice(iterator, size)):
        yield chunk


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
