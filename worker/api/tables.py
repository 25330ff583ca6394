"""Tables in memory: those of pandas, polars, pyarrow, Hugging Face datasets and their like."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.worker.runtime.extras import require_pyarrow
from mh_batch.worker.submission.tables.arrow_rows import ArrowRows
from mh_batch.worker.submission.tables.options import RowOptions
from mh_batch.worker.submission.tables.reader import RowReader
from mh_batch.worker.submission.tables.rows import Row
from mh_batch.worker.submission.tables.source import Lines, Source

BATCH_ROWS = 1000


class MemoryTable(Source):
    """A table in memory; its rows are read once, and hashed as they are read."""

    def __init__(self, table: Any, source: str, options: RowOptions) -> None:
        super().__init__(io.BytesIO(), options)
        self._rows = _HashedRows(_rows(table, source))

    @property
    def size(self) -> None:
        """It is no file."""
        return

    def digest(self) -> None:
        """It may be one that can be read only once."""
        return

    def lines(self, name: str, inherited: Inherited, max_line_bytes: int) -> Lines:
        """Return the reader of the jobs; `name` is the table's name in messages."""
        rows, options = self._rows, self.options
        return RowReader(rows, name, inherited, max_line_bytes, options, rows.sha256)


def is_table(given: Any) -> bool:
    """Whether something is a table that can be read: not a series, which is one column."""
    kind = type(given)
    arrow = hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "dtype")
    return arrow or _is_dataset(given)


class _HashedRows:
    """Rows of a table, and the hash of those that were read."""

    def __init__(self, rows: ArrowRows) -> None:
        self.columns = rows.columns
        self._rows = rows
        self._digest = hashlib.sha256()

    @property
    def bytes_read(self) -> int:
        return 0

    def sha256(self) -> str:
        """Return the hash, in hex."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            try:
                content = msgspec.json.encode(row.fields, enc_hook=str)
            except (TypeError, ValueError, OverflowError):
                content = repr(row.fields).encode("utf-8", "backslashreplace")
            self._digest.update(content + b"\n")
            yield row


def _is_dataset(given: Any) -> bool:
    """Whether something is a data set of Hugging Face that has its rows at hand."""
    kind = type(given)
    return (
        kind.__module__.partition(".")[0] == "datasets"
        and hasattr(kind, "with_format")
        and (hasattr(kind, "to_parquet"))
    )


def _rows(table: Any, source: str) -> ArrowRows:
    """Return the rows of a table; raises `InputError` for one that is none to Arrow."""
    require_pyarrow(f"{source}: reading a table")
    with _faults(source):
        columns, batches = _dataset(table) if _is_dataset(table) else _arrow(table)

    def counted() -> Iterator[tuple[Any, int]]:
        for batch in batches():
            yield batch, 0

    return ArrowRows(source, columns, counted)


def _arrow(table: Any) -> tuple[tuple[str, ...], Callable[[], Iterator[Any]]]:
    import pyarrow as pa

    if type(table).__module__.partition(".")[0] == "pandas":
        # an index with a name is a column: it may be the ids
        named = any(name is not None for name in table.index.names)
        table = pa.Table.from_pandas(table, preserve_index=named)
    stream = pa.RecordBatchReader.from_stream(table)
    return tuple(stream.schema.names), lambda: iter(stream)


def _dataset(dataset: Any) -> tuple[tuple[str, ...], Callable[[], Iterator[Any]]]:
    def batches() -> Iterator[Any]:
        # as Arrow, whatever its own format is: that may be numpy's
        for table in dataset.with_format("arrow").iter(BATCH_ROWS):
            yield from table.to_batches()

    return tuple(dataset.column_names), batches


@contextmanager
def _faults(source: str) -> Iterator[None]:
    """Raise what pyarrow finds wrong with a table as `InputError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{source}: {' '.join(str(error).split())}") from None
