"""What a drain tells while it works, and what it has done so far."""

from typing import Protocol

import msgspec

from mh_batch.jobs.generation import Generation, decode_speed, decoded_tokens
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.jobs.status import NOT_WELL, Status
from mh_batch.worker.draining.room import Room

SUSPICIOUS = 3
"""After how many jobs in a row that failed at the model it may be the model, and not they."""


class Tally(msgspec.Struct):
    """What a drain has put on disk so far, over all attempts.

    Of the `tokens` all but the first of each attempt are `decoded_tokens`, which took
    `decode_seconds`.

    `batches` are those of the finished jobs. `rescued` of the jobs that are done have an answer
    that was forced from thoughts that had not ended. `room` says if attempts had enough of it.
    """

    ended: dict[Status, int] = {}
    batches: set[int] = set()
    tokens: int = 0
    decoded_tokens: int = 0
    decode_seconds: float = 0.0
    rescued: int = 0
    room: Room = msgspec.field(default_factory=Room)

    @property
    def jobs(self) -> int:
        """How many jobs were finished."""
        return sum(self.ended.values())

    @property
    def all_well(self) -> bool:
        """Whether every finished job is done, but for those that somebody cancelled."""
        return not self.not_well

    @property
    def not_well(self) -> int:
        """How many jobs failed or are incomplete."""
        return sum(self.ended.get(status, 0) for status in NOT_WELL)

    @property
    def tokens_per_second(self) -> float | None:
        """How fast was decoded, `None` if nothing was."""
        return decode_speed(self.decoded_tokens, self.decode_seconds)

    def add(self, generation: Generation) -> None:
        """Add an attempt."""
        self.tokens += len(generation.tokens)
        self.decoded_tokens += decoded_tokens(len(generation.tokens))
        self.decode_seconds += generation.timings.decode_seconds

    def count(self, status: Status, jobs: int = 1) -> None:
        """Add `jobs` that ended so; take them away if it is negative."""
        self.ended[status] = self.ended.get(status, 0) + jobs


class FailedInARow:
    """The latest jobs that failed at the model or behind it, with nothing good between them.

    Three of them may be a file of one kind, or the end of the model: `model` is the one they had.
    """

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.model = ""

    def __bool__(self) -> bool:
        """Whether it is time to find out."""
        return len(self.jobs) >= SUSPICIOUS

    def add(self, job: ClaimedJob) -> None:
        """Take that a job failed."""
        self.jobs.append(job.id)
        self.model = job.model

    def clear(self) -> None:
        """Take that the model and all behind it work."""
        self.jobs.clear()


class Display(Protocol):
    """What the drain tells while it works, between entering and leaving it."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        """Something a person should read."""

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """An attempt goes to the model."""

    def tokens(self, count: int) -> None:
        """The running attempt has `count` completion tokens so far."""

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """A job was finished; `waiting` jobs are still queued."""
