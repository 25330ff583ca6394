"""`mh-batch report`: a batch as one HTML page that needs nothing but a browser."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.results.transcript import choices, transcript
from mh_batch.jobs.settings import GROUPS, Settings
from mh_batch.jobs.status import UNSUCCESSFUL
from mh_batch.store.clock import now
from mh_batch.store.connection import location
from mh_batch.store.lookup import find_batch, latest_batch
from mh_batch.store.reports.batch_page import BatchPage, ModelSlots, Run, batch_page
from mh_batch.store.reports.batches import BatchReport
from mh_batch.worker.output.charts.svg import svg
from mh_batch.worker.output.charts.timing_charts import charts
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import (
    format_count,
    format_number,
    format_percent,
    format_rescued,
    format_seconds,
)

from .files import check_output, open_output
from .json_answer import readable_channels
from .timings import REFUSAL_COLUMNS, moment, refusal_rows, summary

TEMPLATE = "report.html.jinja"
MOST_CHARACTERS = 4000
SHOWN_ENDS = 20
"""How many texts of a long conversation are shown at its beginning, and how many at its end."""


class Passage(msgspec.Struct, frozen=True):
    """One text of a conversation; `more` counts the characters that were cut off."""

    who: str
    text: str
    more: int
    is_thought: bool


class Sample(msgspec.Struct, frozen=True):
    """A conversation to read: its beginning and its end, and how much is left out between them."""

    job: FinishedJob
    begin: tuple[Passage, ...]
    end: tuple[Passage, ...] = ()
    left_out: int = 0
    characters: int = 0


class Setting(msgspec.Struct, frozen=True):
    """A setting of the batch; `changed` if it differs from the default."""

    name: str
    value: str
    changed: bool


def write_report(db: Database, ref: str | None, output: str) -> None:
    """Write the page of batch `ref` (`None`: the latest) to a file, or `-` for standard output.

    Raises `InputError` if it cannot be written there.
    """
    check_output(output, location(db), what="the page")
    batch = find_batch(db, ref) if ref else latest_batch(db)
    html = page(batch_page(db, batch), now())
    with open_output(output) as out:
        out.write(html)


def page(found: BatchPage, written_at: str) -> str:
    """Return the page as HTML; every text is escaped, control characters too."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.filters.update(
        number=format_number,
        seconds=format_seconds,
        moment=moment,
        count=format_count,
        with_rescued=format_rescued,
        together=together,
    )
    template = environment.from_string(Path(__file__).with_name(TEMPLATE).read_text("utf-8"))
    return (
        template.render(
            page=found,
            written_at=written_at,
            outcome=outcome(found.report),
            summary=summary(found.timings),
            charts=[(chart.title, Markup(svg(chart))) for chart in charts(found.timings)],
            refusals=refusal_rows(found.timings),
            refusal_columns=REFUSAL_COLUMNS,
            not_done=found.report.count(UNSUCCESSFUL),
            samples=[sample(job) for job in found.samples],
            mixed=mixed(found.slots),
            settings=settings_rows(found.settings),
        )
        + "\n"
    )


def outcome(report: BatchReport) -> list[tuple[str, int, str]]:
    """Return each status that some job has, with the number of jobs and their share."""
    return [
        (status, count, format_percent(count, report.total))
        for status, count in report.counts.items()
        if count
    ]


def sample(job: FinishedJob) -> Sample:
    """Return a job's first completion; the middle of a long conversation is left out."""
    said = tuple(conversation(job))
    if len(said) <= 2 * SHOWN_ENDS:
        return Sample(job, said)
    middle = said[SHOWN_ENDS:-SHOWN_ENDS]
    characters = sum(len(passage.text) + passage.more for passage in middle)
    return Sample(job, said[:SHOWN_ENDS], said[-SHOWN_ENDS:], len(middle), characters)


def conversation(job: FinishedJob) -> Iterator[Passage]:
    """Yield the messages of a job's first completion, long texts cut."""
    turns = next(iter(choices(job)), ())
    for entry in transcript(job.request, turns):
        message = entry.message
        if entry.turn is not None:
            for channel in readable_channels(entry.turn):
                to = f" to {channel.recipient}" if channel.recipient else ""
                yield _passage(f"assistant, {channel.channel}{to}", channel.text)
            continue
        if message.thinking:
            yield _passage(f"{message.role}, analysis", message.thinking)
        if message.content or not message.tool_calls:
            yield _passage(f"{message.role} {message.name or ''}".strip(), message.content)
        for call in message.tool_calls:
            yield _passage(f"{message.role} calls {call.function.name}", call.function.arguments)


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


def settings_rows(text: str) -> list[Setting]:
    """Return the settings of a batch by name, the changed ones first."""
    defaults = dict(_flat(msgspec.json.decode(msgspec.json.encode(Settings()))))
    rows = [
        Setting(name, msgspec.json.encode(value).decode(), value != defaults.get(name))
        for name, value in _flat(msgspec.json.decode(text))
    ]
    return sorted(rows, key=lambda row: not row.changed)


def _passage(who: str, text: str) -> Passage:
    more = max(0, len(text) - MOST_CHARACTERS)
    return Passage(who, text[:MOST_CHARACTERS], more, "analysis" in who)


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of all groups by their own names, which are unique."""
    for name, value in values.items():
        if isinstance(value, dict) and name in GROUPS.values():
            yield from _flat(value)
        else:
            yield name, value


def _escaped(value: object) -> object:
    """Escape control characters in what the template writes; our own markup stays as it is."""
    return value if isinstance(value, Markup) else escape_controls(str(value).replace("\r\n", "\n"))
