"""The results of a batch as lines of OpenAI's batch output, a page at a time."""

from contextlib import closing
from typing import NamedTuple

import msgspec
from msgspec.structs import replace
from sqlite_utils import Database

from mh_batch.jobs.record import FinishedJob
from mh_batch.jobs.results.batch_output import answered, openai_line
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store.server.endings import EndedBatch, Sizes, finished_after, record_end
from mh_batch.store.server.files import Part

PAGE_BYTES = 1 << 18
PAGE_JOBS = 500
"""How much is read at a time: others wait for it, and each slow client has as much in memory."""

BEGIN = -1
_STATUSES: dict[Part, tuple[Status, ...]] = {
    "output": (Status.DONE, Status.INCOMPLETE),
    "errors": (Status.FAILED, Status.CANCELLED, Status.INCOMPLETE),
}
_EXPIRED = "batch_expired"
_WHY_EXPIRED = "This request could not be executed before the completion window expired."


class Page(NamedTuple):
    """Some lines, and the position behind which the next page begins; `None` for the last page."""

    data: bytes
    position: int | None


def result_page(
    db: Database, batch_id: int, part: Part, position: int, *, expired: bool = False
) -> Page:
    """Return the lines of the jobs behind a position; the first page is behind `BEGIN`.

    With `expired`, what was cancelled was so because the time of the batch was over.
    """
    data = bytearray()
    with closing(finished_after(db, batch_id, _STATUSES[part], position)) as jobs:
        for count, job in enumerate(jobs):
            # the copies of one row have one position: they are not parted
            if _is_full(count, len(data)) and job.position != position:
                return Page(bytes(data), position)
            position = job.position
            if part_of(job) == part:
                data += result_line(job, expired=expired)
    return Page(bytes(data), None)


def part_of(job: FinishedJob) -> Part:
    """Return which file a job is in: every finished job is in one of the two."""
    return "output" if answered(job) else "errors"


def result_line(job: FinishedJob, *, expired: bool = False) -> bytes:
    """Return the line of a job."""
    if expired and job.status is Status.CANCELLED and not job.error_code:
        job = replace(job, error_code=_EXPIRED, error=_WHY_EXPIRED)
    return msgspec.json.encode(openai_line(job)) + b"\n"


def _is_full(jobs: int, nbytes: int) -> bool:
    return jobs >= PAGE_JOBS or nbytes >= PAGE_BYTES


class Measure:
    """Measures the results of an ended batch, a page at each `step`."""

    def __init__(self, ended: EndedBatch) -> None:
        self._ended = ended
        self._sizes = Sizes()
        self._position = BEGIN

    def step(self, db: Database) -> bool:
        """Measure some more, and record the sizes at the end; return whether it was the end."""
        begin = self._sizes.output + self._sizes.errors
        jobs = finished_after(db, self._ended.batch_id, sorted(FINISHED), self._position)
        with closing(jobs):
            for count, job in enumerate(jobs):
                read = self._sizes.output + self._sizes.errors - begin
                if _is_full(count, read) and job.position != self._position:
                    return False
                self._position = job.position
                self._add(job)
        record_end(db, self._ended, self._sizes)
        return True

    def _add(self, job: FinishedJob) -> None:
        nbytes = len(result_line(job, expired=self._ended.expired))
        if part_of(job) == "output":
            self._sizes.output += nbytes
        else:
            self._sizes.errors += nbytes
        self._sizes.ended_at = max(self._sizes.ended_at, job.finished_at or "")
