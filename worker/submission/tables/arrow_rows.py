"""The rows of Parquet files and of data sets saved by Hugging Face `datasets`, read by pyarrow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.worker.runtime.extras import require_pyarrow

from .csv_rows import check_columns
from .rows import Row

BATCH_ROWS = 256
READ_BYTES = 1 << 20
STATE, SPLITS = "state.json", "dataset_dict.json"

Batches = Callable[[], Iterator[tuple[Any, int]]]
"""Yields record batches, each with how many bytes of the file were read by its end."""


class ArrowRows:
    """Reads rows out of record batches."""

    def __init__(self, source: str, columns: tuple[str, ...], batches: Batches) -> None:
        check_columns(source, columns)
        self.columns = columns
        self.bytes_read = 0
        self._source = source
        self._batches = batches

    def __iter__(self) -> Iterator[Row]:
        """Yield each row, numbered from 1."""
        number = 0
        with _faults(self._source):
            for batch, read in self._batches():
                self.bytes_read = read
                for begin in range(0, batch.num_rows, BATCH_ROWS):
                    for fields in _in_microseconds(batch.slice(begin, BATCH_ROWS)).to_pylist():
                        number += 1
                        yield Row(number, fields)


def parquet_rows(stream: BinaryIO, source: str, size: int) -> ArrowRows:
    """Return the rows of a Parquet file of `size` bytes, of which a few are in memory at a time."""
    require_pyarrow(f"{source}: reading it")
    import pyarrow.parquet as pq

    with _faults(source):
        # without these a whole row group is read at once, which may be the whole file
        file = pq.ParquetFile(stream, buffer_size=READ_BYTES, pre_buffer=False)
        columns = tuple(file.schema_arrow.names)
        rows = max(file.metadata.num_rows, 1)

    def batches() -> Iterator[tuple[Any, int]]:
        done = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            done += batch.num_rows
            yield batch, size * done // rows

    return ArrowRows(source, columns, batches)


def saved_rows(files: list[Path], source: str) -> ArrowRows:
    """Return the rows of a saved data set: those of its files, one after the other."""
    require_pyarrow(f"{source}: reading it")
    import pyarrow as pa

    with _faults(source), files[0].open("rb") as first:
        columns = tuple(pa.ipc.open_stream(first).schema.names)

    def batches() -> Iterator[tuple[Any, int]]:
        before = 0
        for path in files:
            with path.open("rb") as file:
                for batch in pa.ipc.open_stream(file):
                    yield batch, before + file.tell()
            before += path.stat().st_size

    return ArrowRows(source, columns, batches)


class _DataFile(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    data_files: list[_DataFile] = msgspec.field(name="_data_files")


class _Splits(msgspec.Struct):
    splits: list[str]


def saved_files(folder: Path, source: str) -> list[Path]:
    """Return the files of a saved data set.

    Raises `InputError` for a folder that is none, and for one of several data sets, with their
    names.
    """
    try:
        if (folder / SPLITS).is_file():
            splits = msgspec.json.decode((folder / SPLITS).read_bytes(), type=_Splits).splits
            first = folder / splits[0] if splits else folder
            names = ", ".join(splits)
            raise InputError(f"{source}: holds {names}; name one of them, such as {first}")
        state = msgspec.json.decode((folder / STATE).read_bytes(), type=_State)
    except FileNotFoundError:
        raise InputError(
            f"{source}: a folder, and not a data set saved by `datasets`: name a file"
        ) from None
    except msgspec.DecodeError as error:
        raise InputError(f"{source}: not a saved data set: {error}") from None
    files = [folder / file.filename for file in state.data_files]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None or not files:
        raise InputError(f"{source}: {missing.name if missing else 'its data'} is missing")
    return files


def _in_microseconds(batch: Any) -> Any:
    """Return a batch whose times Python can hold: it has no nanoseconds."""
    import pyarrow as pa

    schema = batch.schema
    for i, field in enumerate(schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = pa.timestamp("us", field.type.tz)
            cut = batch.column(i).cast(kind, safe=False)
            batch = batch.set_column(i, field.name, cut)
    return batch


@contextmanager
def _faults(source: str) -> Iterator[None]:
    """Raise what pyarrow finds wrong with a file as `InputError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source}: {' '.join(str(error).split())}") from None
