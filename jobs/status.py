"""The life of a job as a table; an illegal move is an error that names both statuses."""

from enum import StrEnum


class Status(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOVES: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        # back to queued: recovery after the worker crashed or was stopped
        {Status.DONE, Status.INCOMPLETE, Status.FAILED, Status.CANCELLED, Status.QUEUED}
    ),
    Status.DONE: frozenset(),
    Status.INCOMPLETE: frozenset({Status.QUEUED}),
    Status.FAILED: frozenset({Status.QUEUED}),
    Status.CANCELLED: frozenset({Status.QUEUED}),
}

OPEN = frozenset({Status.QUEUED, Status.RUNNING})
FINISHED = frozenset(Status) - OPEN
UNSUCCESSFUL = FINISHED - {Status.DONE}
NOT_WELL = UNSUCCESSFUL - {Status.CANCELLED}
"""Failed or incomplete."""

RETRYABLE = frozenset(s for s in FINISHED if Status.QUEUED in MOVES[s])


class IllegalMove(ValueError):
    """A move of a job that its status does not allow."""


def check_move(current: Status, target: Status) -> Status:
    """Return `target` if a job in `current` may go there, else raise `IllegalMove`."""
    if target not in MOVES[current]:
        allowed = ", ".join(sorted(MOVES[current])) or "nowhere"
        raise IllegalMove(f"a job that is {current} cannot become {target} (only: {allowed})")
    return target
