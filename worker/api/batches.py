"""`results`, `status`, `cancel` and `retry`: what is there, and what is to be done with it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.results.selection import Rescued, Selection, choose, names_in
from mh_batch.jobs.status import FINISHED, RETRYABLE, Status
from mh_batch.store.changes import retry_settings
from mh_batch.store.connection import location, open_reader, snapshot, writing
from mh_batch.store.lookup import find_batch, find_targets, latest_batch
from mh_batch.store.queue import cancel_retry
from mh_batch.store.queue.cancel_retry import Cancelled
from mh_batch.store.reports.batches import BatchReport, batch_reports
from mh_batch.store.reports.figures import as_seen
from mh_batch.store.reports.progress import latest
from mh_batch.store.reports.results import finished_jobs
from mh_batch.worker.runtime.worker_pid import worker_pid
from mh_batch.worker.submission.output_check import CHECKS
from mh_batch.worker.text.format import as_text

from .draining import StrPath
from .words import python_words

Reference = int | str
"""The number or the name of a batch; of a job its number, its `custom_id`, or `BATCH/JOB`."""


@python_words()
def results(
    db: StrPath,
    batch: Reference | Iterable[Reference] | None = None,
    statuses: Collection[str] = FINISHED,
    rescued: Rescued = "keep",
    *,
    finish_reasons: Collection[str] | None = None,
    where: Mapping[str, object] | None = None,
) -> Iterator[FinishedJob]:
    """Iterate over the finished jobs of a batch in input order, with flat memory.

    `batch` is its number or name, or several of them, one after the other; `None` takes the latest.
    `rescued` says whether to keep or drop conversations with a forced final answer, or to return
    only these. `finish_reasons` selects answers by how they ended, `where` jobs by their metadata.
    The results of a batch are a snapshot of the database, whatever a worker adds meanwhile. Raises
    `UnknownTarget` if there is no such batch, and `InputError` for a status that a finished job
    cannot have.
    """
    ends = None if finish_reasons is None else ",".join(finish_reasons)
    pairs = [f"{key}={as_text(value)}" for key, value in (where or {}).items()]
    wanted = Selection.parse(",".join(statuses), ends, pairs, rescued)
    with closing(open_reader(Path(db))) as reader:
        refs = () if batch is None else _references(batch)
        found = [find_batch(reader, ref) for ref in refs] or [latest_batch(reader)]
    return _finished(Path(db), [one.id for one in found], wanted, rescued)


@python_words()
def status(
    db: StrPath, batch: Reference | None = None, *, archived: bool = False
) -> list[BatchReport]:
    """Return how far each batch is, or the one named: jobs by status, attempts, tokens, speed.

    As in `mh-batch status`, running jobs are those on the model. Archived batches are left out
    unless `archived` is true or they are named. Raises `UnknownTarget` if there is no such batch.
    """
    with closing(open_reader(Path(db))) as reader:
        batch_id = None if batch is None else find_batch(reader, str(batch)).id
        working = worker_pid(location(reader)) is not None
        with snapshot(reader):
            reports = batch_reports(reader, batch_id, archived=archived)
            return list(as_seen(reports, latest(reader), working=working))


@python_words()
def cancel(db: StrPath, targets: Reference | Iterable[Reference]) -> Cancelled:
    """Cancel the queued jobs of batches, or single jobs, and have running ones stopped.

    Returns how many were cancelled at once, and how many more a worker was asked to stop. Raises
    `UnknownTarget` for what is neither a batch nor a job; then nothing is changed.
    """
    with writing(Path(db)) as store:
        found = find_targets(store, _references(targets))
        done = [cancel_retry.cancel(store, target) for target in found]
    return Cancelled(sum(one.at_once for one in done), sum(one.asked for one in done))


@python_words()
def retry(
    db: StrPath,
    targets: Reference | Iterable[Reference],
    *,
    statuses: Collection[str] = RETRYABLE,
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Queue failed, incomplete or cancelled jobs of batches, or single ones, again.

    Returns how many. `statuses` chooses among them. `settings`, such as `max_tokens`, take the
    place of those that the jobs had. Raises `UnknownTarget` for what is neither a batch nor a job,
    `SettingsError` for a setting that there is not, and `InputError` for a job that cannot have it;
    then nothing is changed.
    """
    chosen = names_in("statuses", ",".join(statuses), Status, RETRYABLE) or RETRYABLE
    values = retry_settings.typed(settings or {})
    with writing(Path(db)) as store:
        found = find_targets(store, _references(targets))
        if not values:
            return sum(cancel_retry.retry(store, target, chosen) for target in found)
        return sum(retry_settings.retry(store, found, chosen, values, CHECKS))


def _references(given: Reference | Iterable[Reference]) -> list[str]:
    return [str(ref) for ref in ([given] if isinstance(given, int | str) else given)]


def _finished(
    db: Path, batch_ids: list[int], wanted: Selection, rescued: Rescued
) -> Iterator[FinishedJob]:
    with closing(open_reader(db)) as reader:
        for batch_id in batch_ids:
            for job in finished_jobs(reader, batch_id, sorted(wanted.statuses or FINISHED)):
                selected = wanted.answers(job)
                if not wanted.matches(job) or (wanted.finish_reasons and not selected.turns):
                    continue
                if (kept := choose(selected, rescued)) is not None:
                    yield kept
