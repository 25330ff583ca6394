"""A gpt-oss with random weights: as the demo model, but wider and deeper.

Its output means nothing, but a step costs more like one of a real model.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models import gpt_oss
from mlx_lm.utils import save_model

from mh_batch.engine.model.folder import DEMO
from mh_batch.engine.model.load import find

from .workload import SEED

HIDDEN = 512
LAYERS = 8


def write_random_model(folder: Path) -> None:
    """Write the model's configuration and weights into `folder`; the same ones every time."""
    config: dict[str, Any] = json.loads((find(DEMO) / "config.json").read_text("utf-8"))
    kinds = ("sliding_attention", "full_attention")
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_attention_heads": 8,
        "num_hidden_layers": LAYERS,
        "layer_types": [kinds[layer % 2] for layer in range(LAYERS)],
    }
    mx.random.seed(SEED)
    model = gpt_oss.Model(gpt_oss.ModelArgs.from_dict(config))
    quantization = config["quantization"]
    nn.quantize(model, group_size=quantization["group_size"], bits=quantization["bits"])
    save_model(folder, model)
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
