"""`mh-batch reparse`: an old night read by today's parser, with no model in memory."""

from sqlite_utils import Database

from mh_batch.engine.completion_reader import Completion, Reader
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import Parse
from mh_batch.jobs.record import AttemptKey
from mh_batch.store.queue.reparse import Readable, Reread, add_readings, readable_jobs
from mh_batch.worker.text.format import count


def reparse(db: Database, batch_id: int) -> Reread:
    """Read every attempt of a batch's finished jobs again, a transaction a job.

    Raises `ModelNotLoaded` if a model's tokeniser is not on this machine as it was, and
    `InputError` for a job that was answered before adapters were noted; what was read till then
    stays read.
    """
    total = Reread()
    readers: dict[str, Reader] = {}
    for job in readable_jobs(db, batch_id):
        if job.model not in readers:
            readers[job.model] = _reader(job)
        total += add_readings(db, job.id, readings(job, readers[job.model]))
    return total


def readings(job: Readable, reader: Reader) -> dict[AttemptKey, Parse]:
    """Return how each attempt of a job reads."""
    return {
        attempt.key: reader.read(
            Completion(
                tokens=attempt.generation.tokens,
                stop_reason=attempt.generation.stop_reason,
                opening=attempt.generation.response_prefill,
                stops=attempt.sampling.stops,
                tools=job.tools,
            ),
            attempt.generation.raw,
        )
        for attempt in job.attempts
    }


def _reader(job: Readable) -> Reader:
    if job.adapter is None:
        raise InputError(
            f"job {job.id}: answered by a version that did not note how {job.model} is read; "
            "its first reading stays"
        )
    return Reader(job.adapter, job.model)


def told(found: Reread) -> str:
    """Return in words what a reparse brought."""
    if not found.attempts:
        return "no attempt to read again"
    lines = [
        f"{count(found.attempts, 'attempt')} read again: {found.different} read differently, "
        f"{found.mended} of them well formed now, {found.broken} no longer"
    ]
    if found.answers:
        lines.append(f"{count(found.answers, 'answer')} in the results now as newly read")
    if found.seen:
        lines.append(
            f"{count(found.seen, 'answer')} as before: later turns saw it, or will "
            "(the new reading is in the table parses)"
        )
    return "\n".join(lines)
