"""A claimed job and what plays it."""

from contextlib import suppress
from typing import NamedTuple

from mh_batch.jobs.errors import JobError
from mh_batch.jobs.record import ClaimedJob
from mh_batch.worker.controller.conversation import Generate
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.runtime.job_faults import at_stage


class ClaimedRun(NamedTuple):
    """A claimed job and its run, or the error that keeps it from being played."""

    job: ClaimedJob
    run: JobRun | JobError

    def first_request(self) -> Generate | None:
        """Return the generation that the run begins with; `None` if there is none.

        An error here is reported when the job is played.
        """
        if isinstance(self.run, JobError):
            return None
        with suppress(JobError), at_stage("next"):
            return self.run.upcoming()
        return None
