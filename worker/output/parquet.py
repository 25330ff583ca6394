"""Rows as Parquet: typed columns, a row group at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

from mh_batch.jobs.results.batch_output import Line

GROUP_ROWS = 5_000
GROUP_CHARS = 16_000_000
"""When a row group ends: memory holds one, and a reader need not hold more."""


class _LeftOpen:
    """A file that pyarrow does not close: it is still to be synced."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self.write = out.write
        self.flush = out.flush
        self.tell = out.tell

    def close(self) -> None:
        """Leave the file open."""


@contextmanager
def parquet_writer(out: BinaryIO) -> Iterator[Callable[[Line], object]]:
    """Give a function that writes a row of `table_rows`; the file is complete after the block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with pq.ParquetWriter(pa.PythonFile(_LeftOpen(out), mode="w"), schema) as writer:
        group: list[Line] = []
        size = 0

        def write(row: Line) -> None:
            nonlocal size
            group.append({**row, "finished_at": _time(row["finished_at"])})
            size += sum(len(m["content"]) for m in row["messages"]) + len(row["metadata"] or "")
            if len(group) >= GROUP_ROWS or size >= GROUP_CHARS:
                flush()

        def flush() -> None:
            nonlocal size
            writer.write_table(pa.Table.from_pylist(group, schema))
            group.clear()
            size = 0

        yield write
        if group:
            flush()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _schema() -> Any:
    """Return the columns of `table_rows`, in its order."""
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    function = pa.struct([("name", text), ("arguments", text)])
    call = pa.struct([("id", text), ("type", text), ("function", function)])
    message = pa.struct(
        [
            ("role", text),
            ("content", text),
            ("thinking", text),
            ("name", text),
            ("tool_calls", pa.list_(call)),
            ("tool_call_id", text),
        ]
    )
    columns = {
        "custom_id": text,
        "choice": whole,
        "status": text,
        "final": text,
        "analysis": text,
        "messages": pa.list_(message),
        "tools_json": text,
        "finish_reason": text,
        "rescued": pa.bool_(),
        "error_code": text,
        "error": text,
        "model": text,
        "turns": whole,
        "attempts": whole,
        "prompt_tokens": whole,
        "completion_tokens": whole,
        "prefill_seconds": real,
        "decode_seconds": real,
        "tokens_per_second": real,
        "finished_at": pa.timestamp("ms", "UTC"),
        "batch": text,
        "batch_id": whole,
        "job_id": whole,
        "position": whole,
        "metadata": text,
    }
    return pa.schema(list(columns.items()))
