"""The masks of several rows as one array."""

from array import array
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mh_batch.engine.decoding.constrained import WORD_BITS, masked

from .slot_run import SlotRun

_ALL = 0xFFFFFFFF


def masked_rows(logits: Any, runs: Sequence[SlotRun | None]) -> Any:
    """Return logits, `[rows, vocabulary]`, with -inf for what the form of a row forbids.

    A row without a form keeps each of its numbers.
    """
    count = -(-logits.shape[-1] // WORD_BITS)
    words = array("I", [_ALL]) * (count * len(runs))
    view = memoryview(words)
    for row, run in enumerate(runs):
        if run is not None and run.constraint is not None:
            mask = run.constraint.mask[:count]
            start = row * count
            view[start : start + len(mask)] = mask
            view[start + len(mask) : start + count] = array("I", [0]) * (count - len(mask))
    joint = mx.array(view)  # type: ignore[arg-type]  # any buffer will do
    return masked(logits, joint.reshape(len(runs), count))
