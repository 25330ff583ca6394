"""How a model process ended."""

import signal
from collections.abc import Mapping

import msgspec

from mh_batch.jobs.errors import ModelProcessDied
from mh_batch.jobs.record import AttemptKey, Crash

from .metal import MetalFault, metal_fault
from .protocol import Phase

MOST_WATCHDOG_DEATHS = 30
"""How many watchdog deaths in a row, with no answer between, do not count against a job.

That is at least half an hour with the display on. After that the job may be the cause, and such a
death counts like any other.
"""


class Death(msgspec.Struct, frozen=True):
    """In which phase a model process ended, its signal or exit code, and the end of its log.

    If the worker killed it (no sign of life, or an invalid frame), the log says so too.
    """

    phase: Phase
    signal: int | None
    exit_code: int | None
    stderr_tail: str

    def describe(self, lines: int) -> str:
        """Return how it ended, its last `lines` lines, and a cure if one is known."""
        if self.signal is not None:
            how = f"killed by {signal_name(self.signal)}"
        else:
            how = f"exit code {self.exit_code}"
        last = "\n".join(self.stderr_tail.strip().splitlines()[-lines:])
        fault = self._metal_fault
        cure = f"; {fault.message}: {fault.cure}" if fault is not None else ""
        return f"{how} ({self.phase}); {last or 'it wrote nothing'}{cure}"

    def crash(
        self,
        key: AttemptKey,
        phase: Phase | None = None,
        *,
        cleared: bool = False,
        alone: bool = True,
    ) -> Crash:
        """Return the death as it is stored for an attempt; `phase` is the attempt's own if known.

        `cleared` and `alone` as in `Crash`.
        """
        how = (phase or self.phase, self.signal, self.exit_code, self.stderr_tail)
        return Crash(key, *how, cleared=cleared, alone=alone)

    @property
    def by_watchdog(self) -> bool:
        """Whether macOS ended it to keep the display responsive."""
        fault = self._metal_fault
        return fault is not None and fault.by_watchdog

    @property
    def _metal_fault(self) -> MetalFault | None:
        return metal_fault(self.stderr_tail)

    def __str__(self) -> str:
        return self.describe(1)


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; a signal without a name is given by its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ProcessDied(ModelProcessDied):
    """The model process ended while an answer was due; `death` says how.

    `phases` has the phase of every attempt that was open, by the id of its request.
    """

    def __init__(self, death: Death, phases: Mapping[int, Phase] | None = None) -> None:
        """`None` means that no attempt was open."""
        self.death = death
        self.phases = phases or {}
        super().__init__(f"the model process died: {death}")


class WatchdogDeaths:
    """Counts the deaths by the display's watchdog since the last answer."""

    def __init__(self) -> None:
        self._count = 0

    def excuses(self, death: Death) -> bool:
        """Count a death; return whether the watchdog alone is to blame for it."""
        self._count += death.by_watchdog
        return death.by_watchdog and self._count <= MOST_WATCHDOG_DEATHS

    def reset(self) -> None:
        """Start over after an answer."""
        self._count = 0
