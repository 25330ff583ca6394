"""The output layer of the demo model in floats, as the tests have it.

MLX multiplies by quantised weights slowly on a CPU, and a layer of 201,088 words is most of what
a token costs. The same weights as floats give the same logits in half the time. Processes that are
started and not forked (`helpers.forks`) have the layer as it is stored.
"""

from typing import Any, cast

import mlx.core as mx
from mlx import nn

LARGE = 100_000
"""Layers with fewer outputs are left alone."""

stored_product = nn.QuantizedLinear.__call__
"""What MLX itself does."""

_known: list[tuple[mx.array, mx.array, mx.array]] = []
"""Of the last layer: its weights, their scales, and both as floats."""


def _in_floats(layer: Any, x: mx.array) -> mx.array:
    if layer.weight.shape[0] < LARGE or "bias" in layer:
        return cast(mx.array, stored_product(layer, x))
    return x @ _floats(layer)


def _floats(layer: Any) -> mx.array:
    """Return the weights with a column for each word, made once for all loads of one model."""
    if not (_known and _known[0][0] is layer.weight):
        if _known and _same(layer, *_known[0][:2]):
            floats = _known[0][2]
        else:
            form = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
            wide = mx.dequantize(layer.weight, layer.scales, layer.biases, **form)
            floats = mx.contiguous(wide.T)
        _known[:] = [(layer.weight, layer.scales, floats)]
    return _known[0][2]


def _same(layer: Any, weight: mx.array, scales: mx.array) -> bool:
    pairs = ((layer.weight, weight), (layer.scales, scales))
    return all(bool(mx.array_equal(some, other).item()) for some, other in pairs)


def compute_in_floats() -> None:
    """Have every large output layer of this process computed in floats, if there is no GPU."""
    if not mx.metal.is_available():
        nn.QuantizedLinear.__call__ = _in_floats
