"""Fair comparisons: every round runs all variants, so that a slow minute slows them all."""

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from mh_batch.worker.bench.report.report import Figure


class Sample(NamedTuple):
    """One measurement, with a note or an empty text."""

    value: float
    note: str = ""


Samples = dict[str, list[Sample]]
Variants = Mapping[str, Callable[[], Sample]]


def interleave(variants: Variants, rounds: int, *, warm: bool = True) -> Samples:
    """Measure every variant once a round and return the samples of each.

    Every other round reverses the order of the one before, and the others are shuffled (alike in
    every run), so that no variant always follows the same other. `warm` runs each once first
    without counting it.
    """
    names = list(variants)
    if warm:
        for name in names:
            variants[name]()
    samples: Samples = {name: [] for name in names}
    shuffle = random.Random(0)
    order = names
    for turn in range(rounds):
        order = order[::-1] if turn % 2 else shuffle.sample(names, len(names))
        for name in order:
            samples[name].append(variants[name]())
    return samples


def ratio(samples: Sequence[Sample], reference: Sequence[Sample]) -> float | None:
    """Return the median of the ratios round by round, `None` if a reference is zero."""
    if not samples or any(other.value == 0 for other in reference):
        return None
    return median(a.value / b.value for a, b in zip(samples, reference, strict=True))


def figure(
    place: tuple[str, str],
    unit: str,
    samples: Samples,
    name: str,
    references: Mapping[str, str] | None = None,
) -> Figure:
    """Return the figure of variant `name`; `place` is its scenario and its case.

    `references` maps what a ratio is called to the variant it is over.
    """
    measured = samples[name]
    ratios = {
        label: value
        for label, other in (references or {}).items()
        if (value := ratio(measured, samples[other])) is not None
    }
    return Figure(
        *place,
        value=median(sample.value for sample in measured),
        unit=unit,
        ratios=ratios,
        n=len(measured),
        note=next((sample.note for sample in measured if sample.note), ""),
    )


def not_measured(place: tuple[str, str], unit: str, reason: str) -> Figure:
    """Return a figure without a number, and why."""
    return Figure(*place, value=None, unit=unit, note=f"n/a: {reason}")
