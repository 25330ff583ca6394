"""`submit`: conversations of a file, a table or a program into the queue."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import NewBatch, Order
from mh_batch.jobs.settings import FORMS, MAX_LINE_MIB, Settings, apply, profile_values
from mh_batch.store.connection import open_store
from mh_batch.worker.model_choice import full_name
from mh_batch.worker.submission.schema_file import read_schema, schema_form
from mh_batch.worker.submission.source import batch_name
from mh_batch.worker.submission.submission import Rules, Submitted, submit_stream
from mh_batch.worker.submission.tables.options import RowOptions
from mh_batch.worker.submission.tables.source import Source, open_source

from .draining import StrPath
from .lines import Conversation, as_lines, checked_iterable, is_path
from .tables import MemoryTable, is_table
from .words import python_words

Map = Mapping[str, str | Sequence[str]]
"""Keys of a line and the columns that they are taken from; of `metadata` there may be several."""


@python_words()
def submit(
    db: StrPath,
    conversations: StrPath | Iterable[Conversation] | Any,
    *,
    name: str | None = None,
    model: str | None = None,
    adapter: StrPath | None = None,
    settings: Mapping[str, Any] | None = None,
    profile: str | None = None,
    priority: int = 0,
    again: bool = False,
    prompt: str | None = None,
    template: StrPath | None = None,
    map: Map | None = None,
    system: str | None = None,
    n: int | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    schema: StrPath | Mapping[str, Any] | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    repeat: int | None = None,
    order: Order = "submission",
    override_model: bool = False,
    skip_bad: bool = False,
    ignore_unknown: bool = False,
    max_line_mib: int = MAX_LINE_MIB,
) -> Submitted:
    """Queue conversations as one batch, all or none; the database is created if needed.

    `conversations` is the path of a file (JSON lines, CSV, Parquet, a saved data set), a table of
    pandas, polars, pyarrow or Hugging Face `datasets`, or an iterable of mappings or strings.
    `name` defaults to the file's name, or `python`. `model` is for lines that name none, or with
    `override_model` for all; `None` leaves it to `drain`. `adapter` is a folder that `mlx_lm.lora`
    wrote, for that model. `settings` by flat name, such as
    `max_tokens`, win over the `profile`; `max_tokens` and `temperature` are short for two of them,
    `schema` (a file, or the schema) for the form of JSON that each answer must have.

    `prompt` is a template such as `"Translate: {{text}}"`, `template` a file with one, `map` takes
    keys of a line from columns of other names. `system` and `n` are for lines that do not name
    them. Of the first `limit` rows, `sample` are drawn at random with `seed`, and each is there
    `repeat` times. `order` `prefix` has jobs that begin alike follow one another. `skip_bad` queues
    the other lines if some are bad, and writes those of a file to `FILE.rejected.jsonl`.
    `ignore_unknown` leaves unknown keys of OpenAI bodies out and counts them in `ignored` of the
    return value; else they are errors.

    The `warning` of the return value names models that were not found locally. Raises `BadLines`
    naming each invalid line, `SettingsError`, `InputError` for other arguments that cannot be, and
    `AlreadySubmitted` if the same lines are a batch already, unless `again` is true.
    """
    rows = _row_options(
        *(prompt, template, map),
        numbers={"n": n, "limit": limit, "sample": sample, "repeat": repeat},
        others={"system": system, "seed": seed},
    )
    if order not in ("submission", "prefix"):
        raise InputError(f"order {order!r}: must be one of submission, prefix")
    shortcuts = {"max_tokens": max_tokens, "temperature": temperature}
    given = {**(settings or {}), **{k: v for k, v in shortcuts.items() if v is not None}}
    values = {**(profile_values(profile) if profile else {}), **_formed(given, schema)}
    name, source, stream = _opened(conversations, name, rows)
    batch = NewBatch(
        name=name,
        source=source,
        settings=apply(Settings(), values),
        model=full_name(model, adapter),
        priority=priority,
        given=tuple(sorted(values)),
        order=order,
        override_model=override_model,
    )
    rules = Rules(
        skip_bad,
        again,
        rejects=is_path(conversations),
        max_line_mib=max_line_mib,
        ignore_unknown=ignore_unknown,
    )
    with stream as file, closing(open_store(Path(db))) as store:
        opened = file if isinstance(file, Source) else Source(file, rows)
        return submit_stream(store, opened, batch, rules)


def _opened(
    conversations: Any, name: str | None, rows: RowOptions
) -> tuple[str, str, AbstractContextManager[BinaryIO | Source]]:
    """Return the batch's name, the name of its source, and what reads it."""
    if is_path(conversations):
        path = os.fspath(conversations)
        return name or batch_name(path), path, open_source(path, rows)
    source = name or "python"
    if is_table(conversations):
        return source, source, nullcontext(MemoryTable(conversations, source, rows))
    lines = checked_iterable(conversations, source)
    return source, source, as_lines(lines, source)


def _formed(settings: dict[str, Any], schema: StrPath | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return settings with the form that `schema` asks for."""
    if schema is None:
        return settings
    if both := sorted(settings.keys() & set(FORMS)):
        raise InputError(f"schema and {both[0]}: which one is the form?")
    if isinstance(schema, Mapping):
        return {**settings, "response_format": schema_form(dict(schema))}
    return {**settings, "response_format": read_schema(Path(schema))}


def _row_options(
    prompt: str | None,
    template: StrPath | None,
    map: Map | None,
    numbers: Mapping[str, int | None],
    others: Mapping[str, int | str | None],
) -> RowOptions:
    """Return what to make of rows; raises `InputError` naming the wrong argument."""
    for option, value in numbers.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise InputError(f"{option}: must be a number of at least 1, got {value!r}")
    pairs = [
        (key, column)
        for key, columns in (map or {}).items()
        for column in ([columns] if isinstance(columns, str) else columns)
    ]
    path = None if template is None else Path(template)
    return RowOptions.parse(prompt, path, pairs, **numbers, **others)
