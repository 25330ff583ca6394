"""`mh-batch report`: a batch as one HTML page."""

from collections.abc import Iterable

import msgspec
from markupsafe import Markup
from sqlite_utils import Database

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.status import UNSUCCESSFUL
from mh_batch.store.clock import now
from mh_batch.store.connection import location
from mh_batch.store.lookup import find_batch, latest_batch
from mh_batch.store.reports.batch_page import BatchPage, ModelSlots, Run, SampleJob, batch_page
from mh_batch.store.reports.batches import BatchReport
from mh_batch.store.reports.comparison import comparison
from mh_batch.worker.output.charts.svg import svg
from mh_batch.worker.output.charts.timing_charts import charts, worth_drawing
from mh_batch.worker.output.files import check_output, open_output
from mh_batch.worker.output.timings import REFUSAL_COLUMNS, duration, refusal_rows, summary
from mh_batch.worker.runtime.worker_pid import worker_pid
from mh_batch.worker.text.format import format_count, format_number, format_percent

from .comparison import comparison_page
from .passages import Reading, reading
from .rendering import render
from .settings import defaults_text, settings_rows, settings_used

KINDS = {
    "good": "done without a second attempt",
    "rescued": "done with a rescued answer",
    "retried": "done after attempts that were thrown away",
    "incomplete": "incomplete",
}


class Sample(msgspec.Struct, frozen=True):
    """A conversation to read, and what it is a sample of."""

    of: SampleJob
    kind: str
    reading: Reading


def write_report(db: Database, refs: Iterable[str], output: str) -> None:
    """Write the page of a batch (the latest if none is named), or of two side by side.

    `output` is a file, or `-` for standard output. Raises `InputError` if it cannot be written
    there, and for more than two batches or the same one twice.
    """
    check_output(output, location(db), what="the page")
    batches = [find_batch(db, ref) for ref in refs] or [latest_batch(db)]
    if len(batches) > 2:
        raise InputError(f"report: one batch, or two to compare; these are {len(batches)}")
    if len(batches) == 2 and batches[0].id == batches[1].id:
        raise InputError(f"report: both are batch {batches[0].id}")
    working = worker_pid(location(db)) is not None
    if len(batches) == 2:
        html = comparison_page(comparison(db, *batches, working=working), now())
    else:
        html = page(batch_page(db, batches[0], working=working), now())
    with open_output(output) as out:
        out.write(html)


def page(found: BatchPage, written_at: str) -> str:
    """Return the page of one batch as HTML."""
    drawn = filter(worth_drawing, charts(found.timings))
    return render(
        "report.html.jinja",
        page=found,
        written_at=written_at,
        outcome=outcome(found.report),
        duration=duration(found.timings),
        devices=sorted({run.device for run in found.runs if run.device}),
        summary=summary(found.timings),
        charts=[(chart.title, Markup(svg(chart))) for chart in drawn],
        refusals=refusal_rows(found.timings),
        refusal_columns=REFUSAL_COLUMNS,
        not_done=found.report.count(UNSUCCESSFUL),
        samples=[Sample(one, KINDS[one.kind], reading(one.job)) for one in found.samples],
        mixed=mixed(found.slots),
        together={run.id: together(run) for run in found.runs},
        settings=settings_rows(settings_used(found.settings, found.models)),
        defaults={model.model: defaults_text(model.defaults) for model in found.models},
    )


def outcome(report: BatchReport) -> list[tuple[str, int, str]]:
    """Return each status that some job has, with the number of jobs and their share."""
    return [
        (status, count, format_percent(count, report.total))
        for status, count in report.counts.items()
        if count
    ]


def together(run: Run) -> str:
    """Return how many conversations of the batch a run decoded at once; empty if one."""
    slots = run.slots or 1
    if slots == 1 and run.parallel == 1:
        return ""
    parts = [f"{format_count(slots, 'slot')}"]
    if run.parallel != slots:
        parts[0] += f" (the worker had {run.parallel})"
    if slots > 1 and run.rows is not None:
        parts.append(f"{format_number(run.rows)} busy on average")
    if run.most_rows is not None:
        parts.append(f"after crashes at most {run.most_rows} at once")
    if run.allow_variance:
        parts.append("although the self-test of the model failed")
    return ", ".join(parts)


def mixed(slots: Iterable[ModelSlots]) -> dict[str, str]:
    """Return, by model, the numbers of conversations at once, where there was more than one."""
    numbers: dict[str, list[str]] = {}
    for one in slots:
        numbers.setdefault(one.model, []).append(str(one.parallel))
    return {model: ", then ".join(found) for model, found in numbers.items() if len(found) > 1}
