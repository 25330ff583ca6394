"""Whether the attempts of a drain had room enough for their answers."""

import msgspec

from mh_batch.jobs.record import Attempt
from mh_batch.jobs.settings import Settings
from mh_batch.worker.controller.retry_policy import RetryReason
from mh_batch.worker.text.format import format_count

MORE_ROOM = 4
"""What a `max_tokens` that was too small is multiplied by in the advice, a guess."""


class Room(msgspec.Struct):
    """How many attempts there were, and how many of them were refused for their length.

    Of the `refused` ones `context_full` had less room than their job asks for, since its context
    holds no more. `max_tokens` and `max_attempts` are the largest that those jobs ask for.
    """

    attempts: int = 0
    refused: int = 0
    context_full: int = 0
    max_tokens: int = 0
    max_attempts: int = 0

    def take(self, attempt: Attempt, settings: Settings) -> None:
        """Count an attempt of a job with these settings.

        What goes on where one was cut is one attempt with that, whose refusal counts no more.
        """
        if attempt.continues:
            self.refused = max(0, self.refused - 1)
        else:
            self.attempts += 1
        if attempt.retry_reason != RetryReason.LENGTH:
            return
        asked = settings.sampling.max_tokens
        self.refused += 1
        # what goes on has half as many by design, and only where the context holds them
        self.context_full += attempt.sampling.max_tokens < asked and not attempt.continues
        self.max_tokens = max(self.max_tokens, asked)
        self.max_attempts = max(self.max_attempts, settings.control.max_attempts)

    def advice(self, options: str = "") -> str | None:
        """Return which setting to change if more than half were refused for their length.

        `None` if no more were. `options` is what a command needs to find the database.
        """
        if 2 * self.refused <= self.attempts:
            return None
        told = (
            f"{self.refused:,} of {format_count(self.attempts, 'attempt')} were refused for length"
        )
        if 2 * self.context_full > self.refused:
            return (
                f"{told}, for the context was full: set history_tokens, or raise "
                "max_context_tokens if you lowered it"
            )
        more = f"--again --set max_tokens={MORE_ROOM * self.max_tokens}"
        return (
            f"{told}: max_tokens={self.max_tokens} with max_attempts={self.max_attempts} is too "
            f"small for these answers; try `mh-batch submit FILE{options} {more}`"
        )
