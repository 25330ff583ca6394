"""Reads a table as checked jobs, as `LineReader` does a file of lines."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from mh_batch.jobs.errors import BadLine, InputError
from mh_batch.jobs.jsonl.fields import BadField
from mh_batch.jobs.jsonl.ids import MAX_ID_CHARS, IdKey
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.jsonl.lines import line_fields, read_line
from mh_batch.jobs.record import JobLine

from .mapping import Fields, LineMaker, merged, unknown_shape
from .options import RowOptions
from .rows import Row, Rows
from .selection import chosen


class RowReader:
    """Reads rows as `JobLine` or `BadLine`; `lines` is how many there were.

    `sha256` gives the hash of the file once the last row is read.
    """

    def __init__(
        self,
        rows: Rows,
        source: str,
        inherited: Inherited,
        max_line_bytes: int,
        options: RowOptions,
        sha256: Callable[[], str],
    ) -> None:
        self.lines = 0
        self._rows = rows
        self.source = source
        self._inherited = inherited
        self._max_line_bytes = max_line_bytes
        self._options = options
        self._sha256 = sha256
        self._maker = LineMaker(options, table=rows.columns is not None)
        self._ids = IdKey()
        self._row: Row | None = None

    @property
    def bytes_read(self) -> int:
        """About how much of the file was read."""
        return self._rows.bytes_read

    @property
    def sha256(self) -> str:
        """The hash of the whole file, in hex."""
        return self._sha256()

    def take_raw(self) -> bytes | None:
        """Return the latest row as JSON; `None` for one that could not be read."""
        row = self._row
        if row is None or row.fault is not None:
            return None
        if row.line is not None:
            return row.line
        try:
            return msgspec.json.encode(row.fields, enc_hook=str)
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
            return None

    def __iter__(self) -> Iterator[JobLine | BadLine]:
        """Yield a job or a refusal for every row that is taken, each as often as is asked for.

        Raises `InputError` for a file without rows, and for one without the columns that the
        options name.
        """
        self._check_columns()
        for row in chosen(self._rows, self._options):
            self._row = row
            self.lines += 1
            job = self._job_of(row)
            if isinstance(job, BadLine) or self._options.repeat == 1:
                yield job
            else:
                yield from self._copies(job)
        if not self.lines:
            raise InputError(f"{self.source}: empty, no row holds a job")

    def _check_columns(self) -> None:
        columns = self._rows.columns
        if columns is None:
            return
        if missing := self._maker.missing(columns):
            names = f"{', '.join(missing)}: no such column; there are {', '.join(columns)}"
            raise InputError(f"{self.source}: {names}")
        if not self._maker.makes_conversation(columns):
            raise InputError(unknown_shape(self.source, columns))

    def _job_of(self, row: Row) -> JobLine | BadLine:
        if row.fault is not None:
            return BadLine(row.number, row.fault)
        line, fields = row.line or b"", row.fields
        extra: Fields = {}
        if fields is None and self._options.makes_lines:
            # of one that is no line at all, the check of lines says why
            fields = line_fields(line)
        try:
            if fields is not None:
                line, extra = self._maker.make(fields)
        except BadField as error:
            return BadLine(row.number, str(error))
        if len(line) > self._max_line_bytes:
            most = self._max_line_bytes >> 20
            return BadLine(row.number, f"longer than {most} MiB; --max-line-mib takes longer ones")
        read = read_line(row.number, line, self._inherited, self._options.defaults, self._ids)
        if isinstance(read, BadLine):
            return replace(read, reason=self._maker.named(read.reason))
        return replace(read, metadata=merged(read.metadata, extra)) if extra else read

    def _copies(self, job: JobLine) -> Iterator[JobLine | BadLine]:
        """Yield a job as often as is asked for, each with its number behind the id."""
        for copy in range(1, self._options.repeat + 1):
            custom_id = f"{job.custom_id}-{copy}"
            if len(custom_id) > MAX_ID_CHARS:
                yield BadLine(job.number, f"custom_id: too long for the -{copy} behind it")
                return
            own_id = None if job.own_id is None else f"{job.own_id}-{copy}"[-MAX_ID_CHARS:]
            yield replace(job, custom_id=custom_id, own_id=own_id, copy=copy)
