"""The attempts of a drain as a display shows them: each in a row of its own, and one speed."""

from collections import deque

import msgspec
from msgspec.structs import replace

from mh_batch.jobs.record import AttemptKey

from .snapshot import Attempting

KEEP_SECONDS = 1.0
"""How long an attempt that ended keeps its row, so that the next one can take it."""

SPEED_SECONDS = 10.0
"""Over how many of the latest seconds the speed is measured."""


class _Row(msgspec.Struct):
    """A row of the display; `job` and `choice` say what it shows, in one of how many `slots`."""

    job: int
    choice: int
    shown: Attempting
    slots: int
    ended_at: float | None = None


class RunningAttempts:
    """Gives each conversation in a slot a row that it keeps; the next one takes that row.

    So the rows stay where they are while several conversations run, and their number changes only
    when more or fewer of them run. Slots are taken in the order in which attempts start: one that
    starts while all are taken is read `ahead`, and gets a row once another attempt ends. Times are
    those of one clock, in seconds.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._ahead: deque[_Row] = deque()
        self._reports: deque[tuple[float, int]] = deque()
        self._tokens = 0
        self.tokens_per_second: float | None = None

    @property
    def ahead(self) -> int:
        """How many prompts are read ahead, or wait for that."""
        return len(self._ahead)

    def start(self, job: int, custom_id: str, key: AttemptKey, slots: int) -> None:
        """Show an attempt that takes one of so many slots as soon as one is free."""
        self._ahead.append(_Row(job, key.choice, Attempting(custom_id, key, tokens=0), slots))
        self._fill_slots()

    def report(self, now: float, job: int, choice: int, tokens: int) -> None:
        """Take note that an attempt has so many tokens."""
        row = self._find(job, choice)
        if row is None or row.ended_at is not None:
            return
        before = row.shown.tokens or 0
        row.shown = replace(row.shown, tokens=tokens)
        if not tokens:
            return  # the prompt is being read, which is no decoding
        # how long the first tokens took is not known
        self._tokens += tokens - before if before else 0
        self._reports.append((now, self._tokens))
        while len(self._reports) > 1 and now - self._reports[1][0] >= SPEED_SECONDS:
            self._reports.popleft()
        since, first = self._reports[0]
        if now > since:
            self.tokens_per_second = (self._tokens - first) / (now - since)

    def end(self, now: float, job: int, choice: int) -> None:
        """Take note that an attempt ended; the first that was read ahead is shown in its place."""
        row = self._find(job, choice)
        waited = next((row for row in self._ahead if (row.job, row.choice) == (job, choice)), None)
        if waited is not None:
            self._ahead.remove(waited)
        elif row is not None:
            row.ended_at = now
        self._fill_slots()
        if all(row.ended_at is not None for row in self._rows):
            # what comes before the next token is no decoding
            self._reports.clear()
            self.tokens_per_second = None

    def shown(self, now: float) -> tuple[Attempting, ...]:
        """Return the rows, without those that have been free for a while."""
        rows = self._rows.copy()
        return tuple(
            row.shown for row in rows if row.ended_at is None or now - row.ended_at < KEEP_SECONDS
        )

    def _fill_slots(self) -> None:
        """Show what has a slot now: in its own row, else in a free one, else in a new one."""
        taken = sum(row.ended_at is None for row in self._rows)
        while self._ahead and taken < self._ahead[0].slots:
            started = self._ahead.popleft()
            row = self._find(started.job, started.choice)
            if row is None:
                row = next((row for row in self._rows if row.ended_at is not None), None)
            if row is None:
                self._rows.append(started)
            else:
                self._rows[self._rows.index(row)] = started
            taken += 1

    def _find(self, job: int, choice: int) -> _Row | None:
        return next((row for row in self._rows if (row.job, row.choice) == (job, choice)), None)
