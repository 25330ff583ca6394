"""What a drain reports while it works, and its totals."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from mh_batch.jobs.generation import Generation, decode_speed, decoded_tokens
from mh_batch.jobs.record import AttemptKey, ClaimedJob, JobEnd
from mh_batch.jobs.status import NOT_WELL, Status

from .length_advice import LengthRefusals

SUSPICIOUS = 3
"""After this many jobs in a row that failed at the model, the model itself is tested."""


class Tally(msgspec.Struct):
    """What a drain has recorded so far, over all attempts.

    `decoded_tokens` are all `tokens` but the first of each attempt; they took `machine_seconds`.
    `batches` are those of the finished jobs. `rescued` counts the done jobs with a forced final
    answer. `length_refusals` says whether attempts had enough tokens.
    """

    ended: dict[Status, int] = {}
    batches: set[int] = set()
    tokens: int = 0
    decoded_tokens: int = 0
    machine_seconds: float = 0.0
    rescued: int = 0
    length_refusals: LengthRefusals = msgspec.field(default_factory=LengthRefusals)

    @property
    def jobs(self) -> int:
        """How many jobs were finished."""
        return sum(self.ended.values())

    @property
    def all_well(self) -> bool:
        """Whether every finished job is done or cancelled."""
        return not self.not_well

    @property
    def not_well(self) -> int:
        """How many jobs failed or are incomplete."""
        return sum(self.ended.get(status, 0) for status in NOT_WELL)

    @property
    def tokens_per_second(self) -> float | None:
        """The decode speed, `None` if nothing was decoded."""
        return decode_speed(self.decoded_tokens, self.machine_seconds)

    def add(self, generation: Generation) -> None:
        """Add an attempt."""
        self.tokens += len(generation.tokens)
        self.decoded_tokens += decoded_tokens(len(generation.tokens))
        self.machine_seconds += generation.timings.machine_seconds

    def count(self, status: Status, jobs: int = 1) -> None:
        """Add `jobs` with this status; subtract if negative."""
        self.ended[status] = self.ended.get(status, 0) + jobs


OnIdle = Callable[[Tally, int], object]
"""What is called when the queue has run empty and the drain waits for new work.

It takes the totals so far and the run's row in `runs`.
"""


def nothing_to_do(_tally: Tally, _run_id: int) -> None:
    """Do nothing when the queue has run empty."""


class FailedInARow:
    """The latest jobs that failed at the model or after it, with no success between them.

    `model` is the one they ran on. Either the jobs are at fault, or the model is.
    """

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.model = ""

    def __bool__(self) -> bool:
        """Whether there are enough of them to test the model."""
        return len(self.jobs) >= SUSPICIOUS

    def add(self, job: ClaimedJob) -> None:
        """Add a job that failed."""
        self.jobs.append(job.id)
        self.model = job.model

    def clear(self) -> None:
        """Start over: the model works."""
        self.jobs.clear()


class Display(Protocol):
    """What the drain reports while it works, between entering and leaving it."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        """Something a person should read."""

    def stopping(self, wait: Callable[[], object]) -> None:
        """A first request to stop came; `str(wait())` is what is waited for, as of now."""

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        """An attempt goes to the model."""

    def tokens(self, job: ClaimedJob, key: AttemptKey, count: int) -> None:
        """An attempt has `count` completion tokens so far."""

    def attempt_ended(self, job: ClaimedJob, key: AttemptKey) -> None:
        """The model has answered an attempt, or died on it."""

    def job_ended(self, job: ClaimedJob, end: JobEnd, tally: "Tally", waiting: int) -> None:
        """A job was finished; `waiting` jobs are still queued."""
