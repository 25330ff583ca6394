"""`mh-batch reparse`: stored tokens read by today's parser, with no model in memory."""

from typing import TYPE_CHECKING

import typer

from mh_batch.jobs.errors import InputError
from mh_batch.worker.text.escape import escape_controls

from .options import DEFAULT_DB, BatchRef, Db

if TYPE_CHECKING:
    from sqlite_utils import Database

    from mh_batch.engine.completion_reader import CompletionReader
    from mh_batch.jobs.generation import Parse
    from mh_batch.jobs.record import AttemptKey
    from mh_batch.store.queue.reparse import ReparseCounts, ReparseJob


def reparse(batch: BatchRef = None, db: Db = DEFAULT_DB) -> None:
    """Parse the stored tokens of a batch again; no model is needed.

    With the parser of this version.
    """
    from mh_batch.store.connection import writing
    from mh_batch.store.lookup import find_batch, latest_batch

    with writing(db) as store:
        chosen = find_batch(store, batch) if batch else latest_batch(store)
        name = escape_controls(chosen.name)
        typer.echo(f"batch {chosen.id} ({name}): {message(reparse_batch(store, chosen.id))}")


def reparse_batch(db: "Database", batch_id: int) -> "ReparseCounts":
    """Parse every attempt of a batch's finished jobs again, one transaction per job.

    Raises `ModelNotLoaded` if a model's tokenizer is not on this machine as it was, and
    `InputError` for a job answered by a version that did not store its adapter; jobs parsed
    before that keep their new parse.
    """
    from mh_batch.store.queue.reparse import ReparseCounts, add_parses, reparse_jobs

    total = ReparseCounts()
    readers: dict[str, CompletionReader] = {}
    for job in reparse_jobs(db, batch_id):
        if job.model not in readers:
            readers[job.model] = _reader(job)
        total += add_parses(db, job.id, _parses(job, readers[job.model]), job.form)
    return total


def _parses(job: "ReparseJob", reader: "CompletionReader") -> "dict[AttemptKey, Parse]":
    from mh_batch.engine.completion_reader import Completion
    from mh_batch.worker.controller.form_check import check_parse

    parses = {}
    for attempt in job.attempts:
        made = attempt.generation
        completion = Completion(
            tokens=made.tokens,
            stop_reason=made.stop_reason,
            response_prefill=made.response_prefill,
            stops=attempt.sampling.stops,
            tools=job.tools,
            prompting=job.prompting,
        )
        parse = reader.read(completion, made.raw)
        parses[attempt.key] = check_parse(parse, made.stop_reason, job.form)
    return parses


def _reader(job: "ReparseJob") -> "CompletionReader":
    from mh_batch.engine.completion_reader import CompletionReader

    if job.adapter is None:
        raise InputError(
            f"job {job.id}: answered by a version that did not store the adapter of {job.model}; "
            "its first parse stays"
        )
    return CompletionReader(job.adapter, job.model)


def message(total: "ReparseCounts") -> str:
    """Return what a reparse changed, in words."""
    from mh_batch.worker.text.format import format_count

    if not total.attempts:
        return "no attempt to parse again"
    lines = [
        f"{format_count(total.attempts, 'attempt')} parsed again: {total.different} differently, "
        f"{total.mended} of them well formed now, {total.broken} no longer"
    ]
    if total.answers:
        lines.append(f"{format_count(total.answers, 'answer')} in the results replaced")
    if total.seen:
        lines.append(
            f"{format_count(total.seen, 'answer')} unchanged, because later turns saw it or will "
            "(the new parse is in the table parses)"
        )
    return "\n".join(lines)
