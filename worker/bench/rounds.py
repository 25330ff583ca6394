"""Fair comparisons: all variants in every round, so that a slow minute slows them all."""

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from mh_batch.worker.bench.report.report import Figure


class Sample(NamedTuple):
    """One measurement; `note` is what to know about it, empty for nothing."""

    value: float
    note: str = ""


Samples = dict[str, list[Sample]]
Variants = Mapping[str, Callable[[], Sample]]


def interleave(variants: Variants, rounds: int, *, warm: bool = True) -> Samples:
    """Measure every variant once a round and return the samples of each.

    Every other round goes back the way of the one before, and the others by chance (the same in
    every run), so that of two variants neither is always the one after the other. `warm` runs each
    once before that and forgets it.
    """
    names = list(variants)
    if warm:
        for name in names:
            variants[name]()
    samples: Samples = {name: [] for name in names}
    chance = random.Random(0)
    order = names
    for turn in range(rounds):
        order = order[::-1] if turn % 2 else chance.sample(names, len(names))
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
