"""Advice where attempts of a drain had too few tokens for their answers."""

import msgspec

from mh_batch.jobs.record import Attempt
from mh_batch.jobs.settings import Settings
from mh_batch.worker.controller.retry_policy import CUT
from mh_batch.worker.text.format import format_count

MORE_ROOM = 4
"""The factor in the advice for a `max_tokens` that was too small; a guess."""


class LengthRefusals(msgspec.Struct):
    """How many attempts there were, and how many of them were refused for length.

    Of the `refused` ones, `context_full` had fewer tokens than their job asks for, because the
    context was full. `max_tokens` and `max_attempts` are the largest of those jobs.
    """

    attempts: int = 0
    refused: int = 0
    context_full: int = 0
    max_tokens: int = 0
    max_attempts: int = 0

    def take(self, attempt: Attempt, settings: Settings) -> None:
        """Count an attempt of a job with these settings.

        A continuation is one attempt with the one it continues, whose refusal no longer counts.
        """
        if attempt.continues:
            self.refused = max(0, self.refused - 1)
        else:
            self.attempts += 1
        if attempt.retry_reason not in CUT:
            return
        asked = settings.sampling.max_tokens
        self.refused += 1
        # a continuation has half as many by design, and only if the context holds them
        self.context_full += attempt.sampling.max_tokens < asked and not attempt.continues
        self.max_tokens = max(self.max_tokens, asked)
        self.max_attempts = max(self.max_attempts, settings.control.max_attempts)

    def advice(self, options: str = "") -> str | None:
        """Return which setting to change if more than half were refused for length, else `None`.

        `options` is what a command needs to find the database.
        """
        if 2 * self.refused <= self.attempts:
            return None
        attempts = format_count(self.attempts, "attempt")
        were = "was" if self.refused == 1 else "were"
        refused = f"{self.refused:,} of {attempts} {were} refused for length"
        if 2 * self.context_full > self.refused:
            return (
                f"{refused}, because the context was full: set history_tokens, or raise "
                "max_context_tokens if you lowered it"
            )
        more = f"--set max_tokens={MORE_ROOM * self.max_tokens}"
        return (
            f"{refused}: max_tokens={self.max_tokens} with max_attempts={self.max_attempts} is too "
            f"small for these answers; try `mh-batch retry BATCH{options} {more}`"
        )
