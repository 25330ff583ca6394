"""Which process dies where and when: a pure function of a seed."""

from random import Random
from typing import Literal, NamedTuple

Victim = Literal["model", "worker", "both", "submitter"]

MODEL_PHASES = (
    "loading",
    "rendering",
    "prefill",
    "token",
    "parsed",
    "answered",
    "rescue",
    "going on",
)
"""Moments in the model process."""

WORKER_PHASES = (
    "recovered",
    "claimed",
    "artifact written",
    "artifact renamed",
    "before commit",
    "after commit",
    "crash noted",
)
"""Moments in the worker."""

SUBMIT_PHASES = ("submit begun", "submit chunk", "submit flip", "submit flipped")
"""Moments in a submit."""

PHASES = MODEL_PHASES + WORKER_PHASES + SUBMIT_PHASES

NO_MODEL = ("recovered", "crash noted")
"""Moments of the worker at which no model process runs."""

SPREAD = {
    "rendering": 4,
    "prefill": 4,
    "token": 60,
    "claimed": 3,
    "artifact written": 12,
    "artifact renamed": 12,
    "before commit": 3,
    "after commit": 3,
    "crash noted": 3,
    "rescue": 2,
    "going on": 2,
    "submit chunk": 6,
}
"""How often a phase may be passed from one kill there to the next, at most; 1 where not given."""


class Strike(NamedTuple):
    """A kill at the `passing`-th time that a phase is passed, by whatever process."""

    passing: int
    victim: Victim


Plan = dict[str, tuple[Strike, ...]]


def victims(phase: str) -> tuple[Victim, ...]:
    """Return who can be killed in a phase."""
    if phase in SUBMIT_PHASES:
        return ("submitter",)
    if phase in NO_MODEL:
        return ("worker",)
    return ("model", "worker", "both")


def plan(seed: int, kills: int) -> Plan:
    """Return where `kills` fall, as many in one phase as in another, all victims in turn."""
    return {
        phase: _strikes(Random(f"{seed} {phase}"), phase, (kills + rank) // len(PHASES))
        for rank, phase in enumerate(PHASES)
    }


def _strikes(random: Random, phase: str, kills: int) -> tuple[Strike, ...]:
    chosen: list[Strike] = []
    passing = 0
    for _ in range(kills):
        passing += random.randint(1, SPREAD.get(phase, 1))
        who = victims(phase)
        chosen.append(Strike(passing, who[(len(chosen) + seed_turn(phase)) % len(who)]))
    return tuple(chosen)


def seed_turn(phase: str) -> int:
    """Return whose turn it is first in a phase, so that few kills do not all hit the same one."""
    return PHASES.index(phase)
