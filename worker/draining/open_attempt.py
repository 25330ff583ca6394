"""The jobs that are being played, and their attempts that are with the model."""

from typing import NamedTuple

from mh_batch.jobs.record import AttemptKey, ClaimedJob
from mh_batch.worker.controller.job import JobRun


class ActiveJob:
    """A claimed job that is being played; `guidance` is the remark in the prompt of each attempt.

    `over` is set once the job ended or went back to the queue: late answers are dropped then.
    """

    def __init__(self, job: ClaimedJob, run: JobRun) -> None:
        self.job = job
        self.run = run
        self.guidance: dict[AttemptKey, str | None] = {}
        self.over = False


class OpenAttempt(NamedTuple):
    """An attempt that is with the model.

    `started_at` is when it went there, `began` the same by the clock of durations. A `suspect` runs
    alone. Nothing of a turn is lost if an attempt that `begins_turn` is taken back.
    """

    active: ActiveJob
    key: AttemptKey
    begins_turn: bool
    suspect: bool
    started_at: str
    began: float

    @property
    def job(self) -> ClaimedJob:
        """The job of the attempt."""
        return self.active.job
