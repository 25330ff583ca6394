"""Fixed rows that decode together: every step runs all of them, idle ones too.

So each kernel sees the same shapes in every step, and a row's logits do not depend on how many
others there are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from .joint_draw import draw
from .masks import masked_rows
from .row_caches import IDLE, RowAttention, SlotCaches
from .slot_run import SlotRun


class Forward(NamedTuple):
    """A step of the model, queued but not drawn from: its logits and which attempt each row has."""

    logits: Any
    runs: tuple[SlotRun | None, ...]

    @property
    def constrained(self) -> bool:
        """Whether a row has a form: its mask needs the token before, which must be read first."""
        return any(run is not None and run.constraint is not None for run in self.runs)


class QueuedStep(NamedTuple):
    """A step on the device: the tokens it draws, `[slots]`, and which attempt each slot holds."""

    drawn: Any
    runs: tuple[SlotRun | None, ...]


class Slots:
    """The rows of one model; an attempt whose prompt is read enters one and leaves it at its end.

    A step is queued before the tokens of the one before are read, so that the device never waits
    for Python. What a step draws for an attempt that ended meanwhile is dropped.
    """

    def __init__(self, model: Any, count: int, layers: int) -> None:
        """Raises `UnusualAttention` if the model does not attend by mlx-lm's function."""
        self._model = model
        self._attention = RowAttention(model)
        self._runs: list[SlotRun | None] = [None] * count
        self._layers = [SlotCaches([IDLE] * count) for _ in range(layers)]
        self._tokens = mx.zeros((count,), dtype=mx.uint32)

    @property
    def runs(self) -> Sequence[SlotRun]:
        """The attempts that decode."""
        return [run for run in self._runs if run is not None]

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return None not in self._runs

    def enter(self, run: SlotRun) -> None:
        """Give a free slot to an attempt whose prompt is in its caches but for the last token."""
        slot = self._runs.index(None)
        self._runs[slot] = run
        self._put(slot, run.reading.caches)
        tokens = list(mx.split(self._tokens, len(self._runs)))
        tokens[slot] = mx.array([run.plan.prompt[-1]], dtype=mx.uint32)
        self._tokens = mx.concatenate(tokens)

    def leave(self, run: SlotRun) -> None:
        """Free the slot of an attempt."""
        slot = self._runs.index(run)
        self._runs[slot] = None
        self._put(slot, [IDLE] * len(self._layers))

    def forward(self) -> Forward | None:
        """Queue a step of the model; `None` if all slots are idle."""
        if not any(self._runs):
            return None
        with self._attention:
            logits = self._model(self._tokens[:, None], cache=self._layers)[:, -1, :]
        step = Forward(logits, tuple(self._runs))
        if step.constrained:
            # the device works on all rows while the masks are made
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
        return step

    def draw(self, step: Forward) -> QueuedStep:
        """Queue the draw of a step; where it is constrained, the tokens before must be taken."""
        runs = [run if run is not None and not run.ended else None for run in step.runs]
        logits = masked_rows(step.logits, runs) if step.constrained else step.logits
        samplers = [run.sampler if run is not None else None for run in runs]
        self._tokens = draw(logits, self._tokens, samplers)
        mx.async_eval(self._tokens)  # type: ignore[no-untyped-call]
        return QueuedStep(self._tokens, step.runs)

    def _put(self, slot: int, caches: Sequence[Any]) -> None:
        for layer, cache in zip(self._layers, caches, strict=True):
            layer.put(slot, cache)
