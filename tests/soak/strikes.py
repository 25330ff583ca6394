"""Counts how often each phase was passed, by all processes of a night, and kills where planned."""

import fcntl
import os
import signal
from pathlib import Path

from .plan import Plan, Victim

PASSED, KILLS, PIDS, STARTS = "passed", "kills.log", "pids", "starts.log"


class Strikes:
    """The plan as one process of a night carries it out.

    What was passed and who was killed lies in files, for nobody here lives long.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._due = {phase: dict(strikes) for phase, strikes in plan.items()}
        self._files: dict[str, int] = {}

    def sign_in(self, role: Victim) -> None:
        """Let other processes of the night find this one."""
        with (self._folder / STARTS).open("a") as log:
            log.write(f"{role}\n")
        (self._folder / PIDS / role).write_text(str(os.getpid()))

    def passing(self, phase: str) -> None:
        """Take that a phase is passed; whom it hits, it hits before this returns."""
        count = self._count(phase)
        victim = self._due.get(phase, {}).get(count)
        if victim is not None:
            self._kill(victim, f"{phase}\t{victim}\t{count}\n")

    def _count(self, phase: str) -> int:
        """Return how often the phase was passed, with this time."""
        file = self._files.get(phase)
        if file is None:
            path = self._folder / PASSED / phase
            file = self._files[phase] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            os.write(file, b".")
            return os.fstat(file).st_size
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _kill(self, victim: Victim, note: str) -> None:
        """Kill others first; comes back only if it was not this process that had to go.

        Who was on its way out already is not counted.
        """
        roles: tuple[Victim, ...] = ("worker", "model") if victim == "both" else (victim,)
        pids = {int((self._folder / PIDS / role).read_text()) for role in roles}
        me = os.getpid()
        others = [_killed(pid) for pid in pids - {me}]
        if any(others) or me in pids:
            with (self._folder / KILLS).open("a") as log:
                log.write(note)
        if me in pids:
            os.kill(me, signal.SIGKILL)


def _killed(pid: int) -> bool:
    """Kill a process; return whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
