"""What the tests have for the demo's output layer (`helpers.output_layer`) is what it is."""

from typing import Any

import mlx.core as mx
import pytest

from helpers.output_layer import stored_product
from mh_batch.engine.model.load import load


@pytest.fixture(scope="module")
def layer() -> Any:
    return load("demo").model.lm_head


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_the_logits_are_those_of_the_layer_as_it_is_stored(layer: Any, rows: int) -> None:
    x = mx.random.normal((1, rows, 64), key=mx.random.key(rows))
    assert layer(x).shape == (1, rows, 201_088)
    assert mx.allclose(layer(x), stored_product(layer, x), rtol=1e-5, atol=1e-4)
