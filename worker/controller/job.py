"""The choices of one job as a core without I/O: their generations may run side by side.

A choice depends on none of the others, so any order of answers gives each the same course, and
the job the same end.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mh_batch.jobs.generation import Generation
from mh_batch.jobs.record import ClaimedJob, History, JobEnd
from mh_batch.jobs.status import Status

from .conversation import Action, ConversationRun, Finish, Generate, GoodAnswer, Record


class JobRun:
    """The course of one job, from any checkpoint.

    `next()` says what to do, as often as the caller has room for a generation; `feed()` takes the
    answers in any order. Asked for one generation at a time, it plays one choice after the other.
    If a generation is impossible, the caller ends the job.
    """

    def __init__(self, choices: Sequence[ConversationRun]) -> None:
        self._choices = choices
        self._open: set[int] = set()
        self._end_given = False

    @classmethod
    def resume(cls, job: ClaimedJob, checkpoint: History) -> JobRun:
        """Return the run as it was when the last part of `checkpoint` was written."""
        return cls([ConversationRun(job, checkpoint, n) for n in range(job.request.n)])

    def next(self, *, begin: bool = True) -> Action | None:
        """Return what to do now; `None` if all that is left waits for answers, or nothing is left.

        That is a record to write, else the next `Generate` of the lowest choice that has none
        open, else the end of a job whose choices were over before. Nothing is returned twice,
        unless it is withdrawn. Without `begin`, no `Generate` is returned.
        """
        record = self.take_record()
        if record is not None:
            return record
        action = self.upcoming() if begin else None
        if action is not None:
            self._open.add(action.key.choice)
            return action
        end = self._take_end()
        return None if end is None else Finish(end)

    def take_record(self) -> Record | None:
        """Return a record that must be written, once; `None` if there is none."""
        for run in self._choices:
            record = run.take_record()
            if record is not None:
                return msgspec.structs.replace(record, end=self._take_end())
        return None

    def upcoming(self) -> Generate | None:
        """Return the `Generate` that comes next, without opening it; `None` if there is none."""
        for choice, run in enumerate(self._choices):
            if run.end is None and choice not in self._open:
                return run.generate()
        return None

    def good_answer(self, choice: int, generation: Generation) -> GoodAnswer | None:
        """Return the answer of a choice if a check could still reject it, else `None`."""
        return self._choices[choice].good_answer(generation)

    def feed(
        self,
        choice: int,
        generation: Generation,
        started_at: str = "",
        finished_at: str = "",
        *,
        rejected: str | None = None,
    ) -> None:
        """Judge what the open `Generate` of a choice produced; `KeyError` if it has none.

        `rejected` is why a check does not accept the answer; `None` if none rejects it.
        """
        self._open.remove(choice)
        self._choices[choice].feed(generation, started_at, finished_at, rejected=rejected)

    def withdraw(self, choice: int) -> None:
        """Take back an open `Generate` that gave no attempt: `next()` gives it again.

        Raises `KeyError` if the choice has none.
        """
        self._open.remove(choice)

    def _take_end(self) -> JobEnd | None:
        """Return the end of the job, once: when all choices are over and have nothing to write.

        It is that of the lowest choice that is not complete, whichever ended first.
        """
        ends = [run.end for run in self._choices if run.end is not None and not run.unwritten]
        if self._end_given or len(ends) < len(self._choices):
            return None
        self._end_given = True
        return next((end for end in ends if end.status is not Status.DONE), ends[0])
