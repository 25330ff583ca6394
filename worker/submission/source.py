"""The file that is submitted: its name, and its lines in chunks of bounded size."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mh_batch.jobs.errors import BadLine
from mh_batch.jobs.record import JobLine
from mh_batch.store.queue.loading_rows import EncodedLine
from mh_batch.store.queue.submit import CHUNK_BYTES, CHUNK_ROWS

from .tables.source import Lines

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 1 << 20


class Chunk(NamedTuple):
    """Some lines of a file: jobs, bad lines, and the raw text of both by line number.

    The raw text is `None` for a line that is too long, or where it is not needed.
    """

    jobs: list[EncodedLine]
    bad: list[BadLine]
    raw: dict[int, bytes | None]


def batch_name(source: str) -> str:
    """Return the default name of a batch: its file's name without the ending."""
    return "stdin" if source == "-" else Path(source).stem


def chunks(
    reader: Lines, encode: Callable[[JobLine], EncodedLine], *, keep_raw: bool
) -> Iterator[Chunk]:
    """Yield the lines of a file in chunks of bounded size, however long a line is.

    Each line is encoded before the next is read; `keep_raw` keeps its raw text too.
    """
    chunk, begin = Chunk([], [], {}), 0
    for line in reader:
        raw, number = reader.take_raw(), line.number
        chunk.raw[number] = raw if keep_raw else None
        del raw
        if isinstance(line, JobLine):
            chunk.jobs.append(encode(line))
        else:
            chunk.bad.append(line)
        del line
        if (
            len(chunk.jobs) + len(chunk.bad) >= CHUNK_ROWS
            or reader.bytes_read - begin >= CHUNK_BYTES
        ):
            yield chunk
            del chunk
            chunk, begin = Chunk([], [], {}), reader.bytes_read
    if chunk.raw:
        yield chunk


def give_large_blocks_back() -> None:
    """Return freed memory blocks of the size of a long line to the system at once.

    By default, glibc does so for the first such block only and takes the next ones from a heap
    whose holes it keeps: a quarter of the memory that long lines may use. Other C libraries need
    no such setting. It applies to the whole process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
