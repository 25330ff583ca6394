"""Adapters as `mlx_lm.lora` writes them, with random values in place of trained ones."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import utils
from mlx_lm.tuner.utils import linear_to_lora_layers

from mh_batch.engine.model.folder import find_local

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


def bare_model(name: str) -> Any:
    """A model as mlx-lm loads it, without an adapter."""
    folder = find_local(name)
    assert folder is not None
    return utils.load_model(folder)[0]


def write_adapter(
    folder: Path, base: str, kind: str = "lora", *, layers: int = 2, seed: int = 1
) -> Path:
    """Write an adapter for the model called `base` that changes what it says; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = bare_model(base)
    model.freeze()
    parameters = {"rank": 4, "scale": 10.0, "dropout": 0.5}
    if kind == "full":
        for layer in model.layers[-layers:]:
            layer.unfreeze()
    else:
        linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
    mx.random.seed(seed)
    weights = {
        name: value + mx.random.normal(value.shape) * 0.05
        for name, value in tree_flatten(model.trainable_parameters())
    }
    mx.save_safetensors(str(folder / WEIGHTS), weights)
    # as `train_model` writes it, less what it asks nobody for
    written = {"fine_tune_type": kind, "num_layers": layers, "model": base, "seed": seed}
    written["lora_parameters"] = None if kind == "full" else parameters
    (folder / CONFIG).write_text(json.dumps(written, indent=4))
    return folder
