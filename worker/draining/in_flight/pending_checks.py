"""Good answers that are being checked while the model works on others."""

from functools import partial
from typing import NamedTuple

from anyio.abc import TaskGroup

from mh_batch.jobs.errors import MhBatchError
from mh_batch.jobs.generation import Generation
from mh_batch.worker.acceptance.checker import Checker
from mh_batch.worker.controller.conversation import GoodAnswer
from mh_batch.worker.runtime.background import Background
from mh_batch.worker.runtime.job_faults import at_stage
from mh_batch.worker.runtime.stop import AutoResetEvent

from .open_attempts import OpenAttempt

MOST_BESIDE = 4
"""How many more answers than slots are checked at once; then the model waits for the checks."""


class Judged(NamedTuple):
    """What came of an attempt, and why a check rejects it (`None` if none does).

    `finished_at` is when the model had answered.
    """

    attempt: OpenAttempt
    outcome: Generation | MhBatchError
    finished_at: str
    rejected: str | None = None


class _Pending(NamedTuple):
    judged: Judged
    check: Background[str | None]


class PendingChecks:
    """The checks under way; `wakeup` is set whenever one has ended."""

    def __init__(self, checker: Checker, wakeup: AutoResetEvent) -> None:
        self._checker = checker
        self._wakeup = wakeup
        self._pending: list[_Pending] = []

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def parallel(self) -> int:
        """In how many slots their jobs decode; raises `IndexError` if there are none."""
        return self._pending[0].judged.attempt.job.parallel

    @property
    def full(self) -> bool:
        """Whether the model should wait for the checks."""
        return bool(self) and len(self) >= self.parallel + MOST_BESIDE

    def begin(self, tasks: TaskGroup, judged: Judged) -> bool:
        """Begin to check an answer if there is something to check; return whether there is.

        Raises `JobError` if the answer cannot be judged.
        """
        attempt, outcome = judged.attempt, judged.outcome
        if not isinstance(outcome, Generation) or not self._checker.checks(attempt.job):
            return False
        with at_stage("decision"):
            good = attempt.active.run.good_answer(attempt.key.choice, outcome)
        if good is None:
            return False
        check = Background(tasks, partial(self._check, attempt, good), self._wakeup.set)
        self._pending.append(_Pending(judged, check))
        return True

    async def take(self) -> Judged | None:
        """Return an answer whose check has ended, with the verdict; `None` if there is none.

        An error of the check is the outcome in place of the generation.
        """
        done = next((pending for pending in self._pending if pending.check.done), None)
        if done is None:
            return None
        self._pending.remove(done)
        try:
            return done.judged._replace(rejected=await done.check.result())
        except MhBatchError as error:
            return done.judged._replace(outcome=error)

    async def _check(self, attempt: OpenAttempt, good: GoodAnswer) -> str | None:
        with at_stage("decision"):
            return await self._checker.rejection(attempt.job, good)
