"""What a conversation or a job does next, where a test knows of what kind that is."""

from typing import Protocol

from mh_batch.worker.controller.conversation import Generate, Record


class Playable(Protocol):
    """A run of a conversation, or of a job with several."""

    def next(self) -> object:
        """Return what is to be done next."""


def generate(run: Playable) -> Generate:
    """The attempt that is due."""
    action = run.next()
    assert isinstance(action, Generate), action
    return action


def record(run: Playable) -> Record:
    """What is to be recorded."""
    action = run.next()
    assert isinstance(action, Record), action
    return action
