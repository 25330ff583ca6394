"""The data card of a folder of results: a README.md as Hugging Face reads it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.errors import EnvironmentFault, InputError
from mh_batch.jobs.models.names import join_name, split_name
from mh_batch.jobs.status import Status
from mh_batch.store.lookup import BatchRow
from mh_batch.store.reports.provenance import Origin, Provenance, provenance
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import format_count

from .pages.settings import defaults_text, settings_rows

NAME = "README.md"
LICENCE = "license: unknown  # fill in, such as cc-by-4.0"
_MARK = "<!-- mh-batch writes this file anew with the results; it keeps the licence. -->"
_LICENCE_LINE = re.compile(r"^license:.*$", re.MULTILINE)


class Content(msgspec.Struct, frozen=True):
    """What the card says about the files: rows by name, the format, and what is left out.

    `rescued` says what became of conversations with forced answers; `notes` are the messages of
    the export.
    """

    rows: Mapping[str, int]
    form: str
    rescued: str
    notes: Sequence[str] = ()


def check_card(folder: str) -> None:
    """Raise `InputError` if the folder has a README.md that is not a card of ours."""
    path = Path(folder) / NAME
    if _kept(path) is None:
        raise InputError(f"{path}: is there and is no data card of mh-batch; name another folder")


def write_card(db: Database, batches: Sequence[BatchRow], folder: str, content: Content) -> str:
    """Write the card of `batches` into the folder of their results; return its path.

    The licence of a card that is there stays.
    """
    from .files import open_output

    path = Path(folder) / NAME
    licence = _kept(path) or LICENCE
    found = [provenance(db, batch) for batch in batches]
    text = "\n".join((*_front_matter(licence, found, content), _MARK, *_body(found, content)))
    with open_output(str(path)) as out:
        out.write(f"{text}\n")
    return str(path)


def _kept(path: Path) -> str | None:
    """Return the licence line of a card, one to fill in if none is there; `None` for a stranger."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return LICENCE
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror}") from None
    if _MARK not in text:
        return None
    found = _LICENCE_LINE.search(text.partition(_MARK)[0])
    return found[0] if found else LICENCE


def _front_matter(licence: str, found: Sequence[Provenance], content: Content) -> Iterator[str]:
    yield "---"
    yield licence
    names = ", ".join(dict.fromkeys(one.report.name for one in found))
    # a text of JSON is one of YAML
    yield f"pretty_name: {msgspec.json.encode(escape_controls(names)).decode()}"
    yield "tags:\n- synthetic\n- mh-batch"
    if content.rows:
        # what else lies in the folder is no part of it
        yield "configs:\n- config_name: default\n  data_files:"
        for name in content.rows:
            # a split's name has no hyphen
            yield f"  - split: {Path(name).stem.replace('-', '_')}\n    path: {name}"
    yield "---"


def _body(found: Sequence[Provenance], content: Content) -> Iterator[str]:
    yield f"\n# {', '.join(dict.fromkeys(_cell(one.report.name) for one in found))}\n"
    yield "Conversations that a language model on one machine answered, written by mh-batch.\n"
    yield "| File | Rows |\n|---|---|"
    for name, rows in content.rows.items():
        yield f"| {name} | {rows} |"
    kept = {"keep": "are kept", "drop": "are left out", "only": "are all there is"}
    yield f"\nThe rows have the format `{content.form}`. Answers that were forced from unfinished"
    yield f"thoughts (rescued) {kept[content.rescued]}."
    yield from (f"{note[:1].upper()}{note[1:]}." for note in map(escape_controls, content.notes))
    yield "\n## Models\n"
    yield "| Batch | Model | Fingerprint of the weights | At once | Device | Versions |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        for model in one.models:
            yield _model_row(one, model)
    yield "\n## Outcome\n"
    yield "| Batch | Jobs | " + " | ".join(_STATUSES) + " | Rescued | Attempts | Retries | Tokens |"
    yield "|---" * (len(_STATUSES) + 6) + "|"
    yield from map(_outcome_row, found)
    yield "\n## Dates\n"
    yield "| Batch | Submitted | First job began | Last job ended |\n|---|---|---|---|"
    for one in found:
        dates = (one.report.submitted_at, one.started_at, one.finished_at)
        yield f"| {_batch(one)} | " + " | ".join(date or "-" for date in dates) + " |"
    for one in found:
        yield from _settings(one)


_STATUSES = tuple(status.value for status in Status)


def model_name(model: Origin) -> str:
    """Return a model's name for others: of a folder, without the way to it."""
    base, adapter = split_name(model.model)
    # a hub name has one slash
    if base.startswith(("/", "~", ".")) or base.count("/") > 1:
        base = Path(base).name
    # an adapter is always a folder
    return base if adapter is None else join_name(base, Path(adapter).name)


def _model_row(one: Provenance, model: Origin) -> str:
    versions = msgspec.json.decode(model.versions) if model.versions else {}
    cells = (
        _batch(one),
        model_name(model),
        model.fingerprint,
        str(model.parallel),
        model.device or "-",
        ", ".join(f"{name} {version}" for name, version in versions.items()) or "-",
    )
    return f"| {' | '.join(map(_cell, cells))} |"


def _outcome_row(one: Provenance) -> str:
    report = one.report
    counts = [report.counts.get(Status(name), 0) for name in _STATUSES]
    others = (report.rescued, report.attempts, report.retries, report.completion_tokens)
    return f"| {_batch(one)} | {report.total} | {' | '.join(map(str, (*counts, *others)))} |"


def _settings(one: Provenance) -> Iterator[str]:
    """Yield the settings of a batch that are not built in, and those that retries changed."""
    yield f"\n## Settings of batch {_batch(one)}\n"
    yield "All others are built in, or as the model itself says; a line may have its own.\n"
    yield "| Setting | Value |\n|---|---|"
    for row in settings_rows(one.settings):
        if row.changed or row.name == "seed":
            yield f"| `{row.name}` | {_cell(row.value)} |"
    for model in one.models:
        if said := defaults_text(model.defaults):
            yield f"\n{_cell(model_name(model))} itself says: {_cell(said)}."
    for values, jobs in one.changed:
        yield f"\n{format_count(jobs, 'job')} queued again with {_cell(values)}."


def _batch(one: Provenance) -> str:
    return f"{one.report.id} ({_cell(one.report.name)})"


def _cell(text: str) -> str:
    """Return a text for a cell of a table: one line, and nothing in it is mark-up."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", escape_controls(text).replace("\n", " "))
