"""`mh-batch results`: finished jobs as files in one of the formats."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.results.batch_output import Line, answered, error_line, left_out_line
from mh_batch.jobs.results.formats import FORMATS
from mh_batch.jobs.results.selection import Rescued, Selection, choose
from mh_batch.jobs.results.split import Split
from mh_batch.jobs.results.transcript import choices
from mh_batch.jobs.status import FINISHED
from mh_batch.store.lookup import BatchRow, find_batch, latest_batch
from mh_batch.store.reports.results import finished_jobs, has_choices, repeated_ids
from mh_batch.worker.runtime.extras import require_pyarrow
from mh_batch.worker.text.format import format_count

from .card import Content, check_card, write_card
from .files import STDOUT, Columns, OutputFiles, check_output


class Export(msgspec.Struct, frozen=True):
    """What to write where.

    `output` is a file, `-`, or with a `split` a folder, which may have a `card`. Unsuccessful jobs
    go to the file `errors`; `None` leaves them to the format. `raw_csv` does not escape cells that
    a spreadsheet would run.
    """

    output: str
    form: str = "openai"
    selection: Selection = Selection()
    errors: str | None = None
    split: Split | None = None
    raw_csv: bool = False
    card: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """The file of each part of the split, by the part's name; empty without a split."""
        ending = FORMATS[self.form].ending
        names = self.split.names if self.split else ()
        return {name: str(Path(self.output) / f"{name}.{ending}") for name in names}

    @property
    def rescued(self) -> Rescued:
        """What to do with conversations that have forced answers."""
        return self.selection.rescued or FORMATS[self.form].rescued

    def path(self, custom_id: str) -> str:
        """Return where the rows of a job go."""
        return self.parts[self.split.part(custom_id)] if self.split else self.output


def check_export(export: Export, db: Path, *inputs: str) -> None:
    """Raise `InputError` if `export` cannot be done: call it before hours of work."""
    if export.form not in FORMATS:
        raise InputError(f"--format {export.form}: must be one of {', '.join(FORMATS)}")
    if export.raw_csv and FORMATS[export.form].columns is None:
        raise InputError("--raw-csv: is for --format csv only")
    if export.form == "parquet":
        require_pyarrow("--format parquet")
        if export.output == STDOUT and export.split is None:
            raise InputError("--format parquet: is not for a terminal or a pipe; name a file by -o")
    paths = [export.output] if export.split is None else list(export.parts.values())
    if export.split is not None:
        _check_folder("--card" if export.card else "--split", export.output)
    if export.split is None or Path(export.output).is_dir():
        for path in paths:
            check_output(path, db, *inputs)
    if export.card:
        check_card(export.output)
    if export.errors is not None:
        check_output(export.errors, db, *inputs)
        if Path(export.errors).resolve() in [Path(path).resolve() for path in paths]:
            raise InputError(f"--errors {export.errors}: the results go there")


class Chosen(NamedTuple):
    """What to write of a job: its selected part, or a line for the file of errors.

    `left_out` counts its conversations that `--rescued` leaves out.
    """

    job: FinishedJob | None
    error: Line | None = None
    left_out: int = 0


class LeftOut(msgspec.Struct):
    """How many parts of jobs are in no file, and of how many jobs no part is."""

    parts: int = 0
    jobs: int = 0

    def add(self, parts: int, *, whole: bool) -> None:
        """Count the parts of one job, and the job if it is left out as a whole."""
        self.parts += parts
        self.jobs += whole and parts > 0

    def describe(self, noun: str, about: str = "") -> str:
        """Return such as `2 answers left out, 1 job as a whole`; `about` follows the noun."""
        whole = f", {format_count(self.jobs, 'job')} as a whole" if self.jobs else ""
        return f"{format_count(self.parts, noun)}{about} left out{whole}"


def write_results(db: Database, refs: Sequence[str], export: Export) -> list[str]:
    """Write the results of batches one after the other (of the latest if none is named).

    Returns the messages to print. A file is written whole or not at all; memory stays flat.
    Raises `UnknownTarget` for a batch that is none, and `InputError` for one that is named twice.
    """
    batches = [find_batch(db, ref) for ref in refs] or [latest_batch(db)]
    _check_distinct(batches, refs)
    form, by_format, by_rescue = FORMATS[export.form], LeftOut(), LeftOut()
    columns = _columns(form.columns, any(has_choices(db, batch.id) for batch in batches))
    with ExitStack() as stack:
        files = OutputFiles(stack, raw_csv=export.raw_csv)
        _open_all(files, export, columns)
        chosen = (_chosen(db, batch.id, export) for batch in batches)
        for job, error, left_out in chain.from_iterable(chosen):
            by_rescue.add(left_out, whole=job is None and error is None)
            if error is not None:
                files.write(export.errors or STDOUT, error)
            if job is None:
                continue
            rows = list(form.rows(job))
            for row in rows:
                files.write(export.path(job.custom_id), row, columns, form.ending)
            by_format.add(len(job.turns) - len(rows) if form.omits else 0, whole=not rows)
    messages = _report(export, files.rows)
    if by_format.parts:
        messages.append(f"{by_format.describe('answer')}: {form.omits}")
    if by_rescue.parts:
        having = "without" if export.rescued == "only" else "with"
        conversations = by_rescue.describe("conversation", f" {having} rescued answers")
        messages.append(f"{conversations}; --rescued keep takes them too")
    if len(batches) > 1 and (repeated := repeated_ids(db, [batch.id for batch in batches])):
        messages.append(f"{_repeated(repeated)}: {_TOLD_APART.get(export.form, _IN_NO_ROW)}")
    if export.card:
        notes = messages[len(export.parts) :]
        parts = export.parts.values()
        written = {Path(path).name: files.rows[path] for path in parts if path in files.rows}
        content = Content(written, export.form, export.rescued, notes)
        messages.append(f"the card is {write_card(db, batches, export.output, content)}")
    return messages


def _check_distinct(batches: Sequence[BatchRow], refs: Sequence[str]) -> None:
    ids = [batch.id for batch in batches]
    for batch, ref in zip(batches, refs, strict=False):
        if ids.count(batch.id) > 1:
            raise InputError(f"{ref}: batch {batch.id} ({batch.name}) is named twice")


_TOLD_APART = {
    "openai": "`id` tells them apart",
    "csv": "`batch_id` tells them apart",
    "parquet": "`batch_id` tells them apart",
    "json": "`batch_id` tells them apart",
}
_IN_NO_ROW = "a row of this format does not say of which"


def _repeated(count: int) -> str:
    stands = "custom_id stands" if count == 1 else "custom_ids stand"
    return f"{count:,} {stands} in more than one of the batches"


def _check_folder(option: str, path: str) -> None:
    folder = Path(path)
    if path == STDOUT or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{option}: needs -o FOLDER; {path} is not a folder")
    if not folder.resolve().parent.is_dir():
        raise InputError(f"{path}: there is no folder {folder.resolve().parent}")


def _columns(columns: Columns, choices: bool) -> Columns:
    return (*columns, "choice") if columns is not None and choices else columns


def _open_all(files: OutputFiles, export: Export, columns: Columns) -> None:
    """Open the files that are written in any case; a part of a split opens with its first row."""
    if export.split is None:
        files.open(export.output, columns, FORMATS[export.form].ending)
    else:
        Path(export.output).mkdir(exist_ok=True)
    if export.errors is not None:
        files.open(export.errors, None)


def _chosen(db: Database, batch_id: int, export: Export) -> Iterator[Chosen]:
    """Yield what to write of each selected job.

    With a file for errors, every job that the format alone would leave out goes there.
    """
    selection, default = export.selection, FORMATS[export.form].statuses
    successful = selection.statuses or default
    apart = export.errors is not None
    read = selection.statuses or (FINISHED if apart else default)
    for job in finished_jobs(db, batch_id, sorted(read)):
        if not selection.matches(job):
            continue
        if apart and not (answered(job) and job.status in successful):
            yield Chosen(None, error_line(job))
            continue
        selected = selection.answers(job)
        if selected.turns or selection.finish_reasons is None:
            yield _chosen_by_rescue(selected, export)


def _chosen_by_rescue(job: FinishedJob, export: Export) -> Chosen:
    rescued = export.rescued
    kept = choose(job, rescued)
    if kept is not None:
        return Chosen(kept, left_out=len(choices(job)) - len(choices(kept)))
    to_errors = rescued == "drop" and export.errors is not None
    return Chosen(None, left_out_line(job) if to_errors else None, len(choices(job)) or 1)


def _report(export: Export, rows: dict[str, int]) -> list[str]:
    """Return how much is in each file; delete an earlier file of a part that is now empty."""
    noun = "line" if FORMATS[export.form].ending == "jsonl" else "row"
    messages = []
    for path in export.parts.values() or [export.output]:
        if path in rows and path != STDOUT:
            messages.append(f"{format_count(rows[path], noun)} in {path}")
        elif path != STDOUT:
            # mlx-lm fails on an empty file but accepts a missing one
            Path(path).unlink(missing_ok=True)
            messages.append(
                f"{path}: no conversation fell into this part, so there is no such file"
            )
    if export.errors is not None and export.errors != STDOUT:
        messages.append(f"{format_count(rows[export.errors], 'error')} in {export.errors}")
    return messages
