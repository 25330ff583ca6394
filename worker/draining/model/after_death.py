"""Finds out which attempt is to blame for a death of the model process.

A death takes all attempts along that are with the model, and blames none of them: each is then run
alone, until it has passed or has died alone too often. If all pass and such a death comes again,
it is the sum of them, such as their memory: then fewer run at once.
"""

from collections.abc import Mapping, Sequence

from mh_batch.jobs.errors import ModelCrashed
from mh_batch.jobs.record import AttemptKey, ClaimedJob
from mh_batch.store import queue
from mh_batch.worker.draining.context import DrainContext
from mh_batch.worker.draining.in_flight.open_attempts import OpenAttempt
from mh_batch.worker.model_process.death import Death, ProcessDied, WatchdogDeaths
from mh_batch.worker.text.format import format_count

from .loader import ModelLoader

LAST_LINES = 5

UNRELATED = 200
"""After so many answers a shared death has nothing to do with the one before."""


class Deaths:
    """Records the deaths of the model process and what follows from them.

    `most` is how many attempts may be with the model at once; `None` for as many as it takes.
    """

    def __init__(self, context: DrainContext, loader: ModelLoader) -> None:
        self.most: int | None = None
        self._context = context
        self._loader = loader
        self._watchdog = WatchdogDeaths()
        self._suspects: set[tuple[int, AttemptKey]] = set()
        self._asked: set[tuple[int, int]] = set()
        self._shared_before = False
        self._answers = 0  # since the last shared death

    async def is_suspect(self, job: ClaimedJob, key: AttemptKey) -> bool:
        """Whether an attempt died beside others, in this run or an earlier one, and has to pass."""
        asked = (job.id, key.choice)
        if job.parallel > 1 and asked not in self._asked:
            # only the first attempt of a choice may have died in an earlier run
            self._asked.add(asked)
            if await self._context.store.call(queue.shared_crashes_on, job.id, key):
                self._suspects.add((job.id, key))
        return (job.id, key) in self._suspects

    def suspects(self, job: ClaimedJob) -> bool:
        """Whether an attempt of the job is known to be a suspect."""
        return any(job_id == job.id for job_id, _ in self._suspects)

    def forget(self, job: ClaimedJob) -> None:
        """Take note that a job is over, or back in the queue."""
        self._suspects = {suspect for suspect in self._suspects if suspect[0] != job.id}
        self._asked = {asked for asked in self._asked if asked[0] != job.id}

    def answered(self, attempt: OpenAttempt) -> None:
        """Take note of an answer: the attempt passed, and the device works."""
        self._watchdog.reset()
        self._answers += 1
        if self._answers >= UNRELATED:
            self._shared_before = False
        self._suspects.discard((attempt.job.id, attempt.key))

    async def blame(self, attempts: Mapping[int, OpenAttempt], error: ProcessDied) -> None:
        """Record a death that `attempts`, by request, were with the model at.

        Raises `ModelCrashed` if the only one has died alone too often.
        """
        death = error.death
        forgiven = self._watchdog.excuses(death)
        alone = len(attempts) == 1
        crashes = []
        for request, attempt in attempts.items():
            phase = error.phases.get(request)
            crash = death.crash(attempt.key, phase, cleared=forgiven, alone=alone)
            crashes.append((attempt.job.id, crash))
        await self._context.store.call(queue.record_crashes, self._context.run_id, crashes)
        died = f"the model process died on {_names(list(attempts.values()))}: {death}"
        if death.by_watchdog:
            await self._loader.wait_for_display(died)
        else:
            self._context.display.note(died)
        if forgiven:
            return
        # a job that was over waited for the end of a cancelled attempt
        wanted = [attempt for attempt in attempts.values() if not attempt.active.over]
        if not alone:
            slots = next(iter(attempts.values())).job.parallel
            await self._shared(wanted, min(slots, len(attempts)))
        elif wanted:
            await self._alone(wanted[0], death)

    async def _alone(self, attempt: OpenAttempt, death: Death) -> None:
        """Fail a job whose attempt has died alone too often."""
        self._shared_before = False
        job, key = attempt.job, attempt.key
        deaths = await self._context.store.call(queue.crashes_on, job.id, key)
        if deaths >= self._context.options.max_crashes:
            died = f"the model process died {format_count(deaths, 'time')} in a row"
            raise ModelCrashed(f"{died} on turn {key.turn}: {death.describe(LAST_LINES)}")

    async def _shared(self, attempts: Sequence[OpenAttempt], at_once: int) -> None:
        """Have each attempt run alone next; after a second time, let fewer run at once."""
        note = self._context.display.note
        all_passed = self._shared_before and not self._suspects
        self._shared_before, self._answers = True, 0
        self._suspects.update((attempt.job.id, attempt.key) for attempt in attempts)
        if not all_passed:
            note(f"running {format_count(len(attempts), 'conversation')} one by one to see why")
            return
        self.most = max(1, at_once // 2)
        await self._context.store.call(queue.limit_rows, self._context.run_id, self.most)
        note(
            "each of them ran well alone, so it is the sum: from now on at most "
            f"{format_count(self.most, 'conversation')} at once"
        )


def _names(attempts: Sequence[OpenAttempt]) -> str:
    """Return the jobs of attempts, as a note names them."""
    first = attempts[0].job.custom_id
    return first if len(attempts) == 1 else f"{first} and {len(attempts) - 1} beside it"
