"""The checks of a self-test: each raises `CheckFailed` where slots break a promise."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import mlx.core as mx

from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.engine.kv_cache.prefix_cache import PrefixCache

from .draws import DRAWN, Drawing, drawn
from .rows import Decoded, Read, Rows
from .samples import STEPS, Sample, Vocabulary

TOLERANCES = {mx.float32: 1e-3, mx.float16: 0.02, mx.bfloat16: 0.06}
"""How far logits may be from those of another kernel, as a part of their own size, by their type.

A model that misreads a position is off by a good part of that size. In a random llama of 16 layers,
rounding to float16 put the logits off those of float32 arithmetic on the same weights by up to
0.0016, to bfloat16 by up to 0.012. Two kernels that round differently are at most twice that apart.
"""
PREFIX_BYTES = 1 << 30

Same = Callable[[Any, Any], bool]


class CheckFailed(Exception):
    """What differed, and the first layer that did; `None` if that is not known."""

    def __init__(self, what: str, layer: int | None) -> None:
        self.layer = layer
        super().__init__(what)


def check_against_alone(rows: Rows, reads: Sequence[Read]) -> None:
    """Check that rows of different lengths have the logits of the model alone, nearly.

    Slots that agree with each other could all be wrong. The median of a row's steps counts: the
    router of a mixture of experts may choose otherwise where two experts are equally good.
    """
    together = rows.together(_ring(reads, rows.count))
    expected = [rows.alone(read) for read in reads]
    for slot, row in together.items():
        read, other = reads[slot % len(reads)], expected[slot % len(reads)]
        off = median(_distance(a, b) for a, b in zip(row.logits, other.logits, strict=True))
        # not `off > tolerance`: that would let NaN pass
        if not off <= _tolerance(row.logits[0]):
            what = (
                f"{read.sample.name} in slot {slot + 1} of {rows.count}: the logits are off those "
                f"of one conversation at a time by {off:.2g} of their size"
            )
            raise CheckFailed(what, _first_layer(row, other, _near))


def check_neighbours(rows: Rows, reads: Sequence[Read]) -> None:
    """Check that each row has the same bits in any slot and beside any others."""
    alone = [rows.together({0: read})[0] for read in reads]
    for order in _arrangements(len(reads), rows.count):
        beside = rows.together({slot: reads[i] for slot, i in order.items()})
        for slot, row in beside.items():
            name = reads[order[slot]].sample.name
            what = f"{name} in slot {slot + 1} of {rows.count}: other logits beside others"
            _check_bits(row, alone[order[slot]], f"{what} than alone")


def check_draws(rows: Rows, reads: Sequence[Read]) -> None:
    """Check that each row draws the same tokens in any slot and beside any others.

    All draw from logits that are made once: that these depend on nothing is another check.
    """
    decoded = rows.together(_ring(reads, min(rows.count, len(reads))))
    drawings = [
        Drawing(decoded[i % len(decoded)].logits, sampling, seed=i)
        for i, sampling in enumerate(DRAWN)
    ]
    alone = [drawn({0: drawing}, rows.count)[0] for drawing in drawings]
    for order in _arrangements(len(drawings), rows.count):
        beside = drawn({slot: drawings[i] for slot, i in order.items()}, rows.count)
        rows.alive()
        for slot, tokens in beside.items():
            if tokens != alone[order[slot]]:
                row = f"{drawings[order[slot]].name} in slot {slot + 1} of {rows.count}"
                what = f"{row}: other tokens from the same logits and seed beside others than alone"
                raise CheckFailed(what, None)


def check_reuse(rows: Rows, vocabulary: Vocabulary, length: int) -> None:
    """Check that a prompt has the same bits where the state of another's beginning is reused."""
    first, second = (vocabulary.ids(length + STEPS, seed) for seed in (1, 2))
    begin = 2 * length // 3
    parts = PromptParts(begin, (begin,), length - 1)
    prefixes = PrefixCache(PREFIX_BYTES)
    decoded = []
    for tail, kept in ((first, prefixes), (second, prefixes), (second, None)):
        ids = first[:begin] + tail[begin:]
        sample = Sample("", ids[:length], ids[length - 1 : length - 1 + STEPS])
        decoded.append(rows.together({0: rows.read(sample, parts, kept)})[0])
    _, reused, fresh = decoded
    _check_bits(reused, fresh, "other logits where the beginning of a prompt is reused")


def _ring(reads: Sequence[Read], count: int) -> dict[int, Read]:
    return {slot: reads[slot % len(reads)] for slot in range(count)}


def _arrangements(samples: int, count: int) -> Iterator[Mapping[int, int]]:
    """Yield which sample is in which slot.

    Each is in the first and in the last slot beside two sets of others: those behind it with all
    slots in use, and those before it with every second slot idle.
    """
    for first in range(samples):
        yield {slot: (first + slot) % samples for slot in range(count)}
        used = sorted({*range(0, count, 2), count - 1})
        yield {slot: (first - slot) % samples for slot in used}


def _check_bits(row: Decoded, expected: Decoded, what: str) -> None:
    for step, (got, wanted) in enumerate(zip(row.logits, expected.logits, strict=True), start=1):
        if not _equal(got, wanted):
            raise CheckFailed(f"{what} (token {step})", _first_layer(row, expected, _equal))


def _first_layer(row: Decoded, expected: Decoded, same: Same) -> int | None:
    """Return the first layer whose cache differs, `None` if none does."""
    for index, (got, wanted) in enumerate(zip(row.caches, expected.caches, strict=True)):
        pairs = zip(got.state[:2], wanted.state[:2], strict=True)
        if not all(a.shape == b.shape and same(a, b) for a, b in pairs):
            return index
    return None


def _tolerance(values: Any) -> float:
    return TOLERANCES.get(values.dtype, TOLERANCES[mx.bfloat16])


def _near(a: Any, b: Any) -> bool:
    return _distance(a, b) <= _tolerance(a)


def _equal(a: Any, b: Any) -> bool:
    return bool(mx.array_equal(a, b).item())


def _distance(a: Any, b: Any) -> float:
    """Return how far `a` is from `b`, as a part of the size of `b` about its mean."""
    a, b = (x.astype(mx.float32).reshape(-1) for x in (a, b))
    a, b = a - mx.mean(a), b - mx.mean(b)
    size = mx.maximum(mx.linalg.norm(b), mx.array(1e-9))
    distance: float = (mx.linalg.norm(a - b) / size).tolist()  # type: ignore[assignment]
    return distance
