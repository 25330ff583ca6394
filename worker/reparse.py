"""`mh-batch reparse`: an old night read by today's parser, with no model in memory."""

from collections.abc import Callable

from sqlite_utils import Database

from mh_batch.engine.reading import Attempt, reader
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import Parse
from mh_batch.jobs.record import Place
from mh_batch.store.rereading import Readable, Reread, add_readings, readable_jobs

Read = Callable[[Attempt], Parse]


def reparse(db: Database, batch_id: int) -> Reread:
    """Read every attempt of a batch's finished jobs again, a transaction a job.

    Raises `ModelNotLoaded` if a model's tokeniser is not on this machine, and `InputError` if the
    batch was answered before its adapters were noted; jobs already done stay done.
    """
    total = Reread()
    readers: dict[str, Read] = {}
    for job in readable_jobs(db, batch_id):
        if job.model not in readers:
            readers[job.model] = _reader(job)
        total += add_readings(db, job.id, readings(job, readers[job.model]))
    return total


def readings(job: Readable, read: Read) -> dict[Place, Parse]:
    """Return how each attempt of a job reads."""
    return {
        attempt.place: read(
            Attempt(
                tokens=attempt.generation.tokens,
                stop_reason=attempt.generation.stop_reason,
                opening=attempt.generation.opening,
                stops=attempt.sampling.stops,
                tools=job.tools,
            )
        )
        for attempt in job.attempts
    }


def _reader(job: Readable) -> Read:
    if job.adapter is None:
        raise InputError(
            f"job {job.id}: answered by a version that did not note how {job.model} is read; "
            "its first reading stays"
        )
    return reader(job.adapter, job.model)


def told(found: Reread) -> str:
    """Return in words what a reparse brought."""
    if not found.attempts:
        return "no attempt to read again"
    lines = [
        f"{_attempts(found.attempts)} read again: {found.different} read differently, "
        f"{found.mended} of them well formed now, {found.broken} no longer"
    ]
    if found.answers:
        lines.append(f"{found.answers} answers in the results follow the new reading")
    if found.seen:
        lines.append(
            f"{found.seen} answers stay as they were: later turns had seen them "
            "(their new readings are in the table parses)"
        )
    return "\n".join(lines)


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
