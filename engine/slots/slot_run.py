"""One attempt on its way through a slot: its tokens and where its time went."""

import time
from collections.abc import Callable

import msgspec

from mh_batch.engine.attempt import AttemptPlan
from mh_batch.engine.constraint.matcher import Constraint
from mh_batch.engine.decoding.constrained import end_of
from mh_batch.engine.decoding.decode import (
    Callbacks,
    Decoded,
    cut_at_stop_sequence,
)
from mh_batch.engine.kv_cache.prefill import Prefill
from mh_batch.engine.timings import attempt_timings
from mh_batch.jobs.generation import GenerationRequest, StopReason, Timings


class SlotRun:
    """An attempt that waits, has its prompt read, decodes in a slot, and ends."""

    def __init__(
        self,
        key: int,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        self.key = key
        self.request = request
        self.cancelled = cancelled
        self.constraint: Constraint | None = None
        self.planned = False
        self.ended = False
        self._decoded = Decoded()
        self._progress = progress
        self._prefill_seconds = 0.0
        self._stall_seconds = 0.0
        self._machine_seconds = 0.0
        self._row_steps = 0

    def prepare(self, plan: AttemptPlan, render_seconds: float) -> None:
        """Take the prompt; `render_seconds` is how long it took to render."""
        self.plan = plan
        self.constraint = plan.constraint
        self.sampler = plan.sampler()
        self.planned = True
        self._criteria = plan.criteria()
        self._callbacks: Callbacks = plan.callbacks(self.cancelled, self._progress)
        self._render_seconds = render_seconds

    def begin(self, reading: Prefill) -> None:
        """Begin to read the prompt."""
        self.reading = reading
        self._began = self._first = time.perf_counter()

    def wait(self) -> None:
        """Wait for a free slot."""
        self._ready_at = time.perf_counter()

    def enter(self) -> None:
        """Enter a slot; the wait for it counts neither as prefill nor as decode."""
        self._began += time.perf_counter() - self._ready_at

    def read_chunk(self, seconds: float) -> None:
        """Count the time of a chunk of the prompt."""
        self._prefill_seconds += seconds

    def stall(self, seconds: float) -> None:
        """Count the time of a chunk of another prompt, during which this one did not decode."""
        self._stall_seconds += seconds

    def take(self, token: int, step_seconds: float, busy: int) -> bool:
        """Take the next token; return whether it ends the completion.

        The step that drew it took `step_seconds` for `busy` rows.
        """
        out = self._decoded
        out.tokens.append(token)
        if len(out.tokens) == 1:
            self._first = time.perf_counter()
            out.first_drawn_seconds = step_seconds
            self._stall_seconds = 0.0
        else:
            self._machine_seconds += step_seconds / busy
            self._row_steps += busy
        reason = end_of(out.tokens, self._criteria, self._callbacks, self.constraint)
        if reason is None and len(out.tokens) < self._criteria.max_tokens:
            self._callbacks.progress(len(out.tokens))
            return False
        self._end(reason or StopReason.MAX_TOKENS)
        return True

    def end_early(self) -> bool:
        """End before the first token if it is cancelled or has no way to keep its form.

        Return whether it has ended.
        """
        if self.cancelled():
            self._end(StopReason.CANCELLED)
        elif self.constraint is not None and self.constraint.error:
            self._end(StopReason.CONSTRAINT_FAILED)
        return self.ended

    def result(self) -> tuple[Decoded, Timings]:
        """Return the tokens and the timings."""
        decoded, steps = self._decoded, len(self._decoded.tokens) - 1
        timings = attempt_timings(
            len(self.plan.prompt), self.reading.result(), decoded, self._prefill_seconds
        )
        return decoded, msgspec.structs.replace(
            timings,
            render_seconds=self._render_seconds,
            first_token_seconds=self._first - self._began,
            rows=self._row_steps / steps if steps > 0 else 1.0,
            stall_seconds=self._stall_seconds,
            machine_seconds=self._machine_seconds,
        )

    def _end(self, reason: StopReason) -> None:
        out = self._decoded
        out.stop_reason = reason
        out.decode_seconds = time.perf_counter() - self._first if out.tokens else 0.0
        cut_at_stop_sequence(out, self._criteria)
        self.ended = True
