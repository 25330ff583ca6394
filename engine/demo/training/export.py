"""Turn a checkpoint into a model folder: `... .export CHECKPOINT FOLDER`.

The folder gets `config.json` and `model.safetensors`, made by mlx-lm's own quantiser and read by
its own loader.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten
from mlx_lm.models.gpt_oss import Model, ModelArgs
from mlx_lm.utils import quantize_model

from .network import Network, Rows, Shape
from .vocabulary import VOCABULARY_SIZE

LAYOUTS = ("full", "tables", "float32")


def model_config(shape: Shape) -> dict[str, Any]:
    """The network's size in the words of a gpt-oss `config.json`."""
    kinds = ("full_attention", "sliding_attention")
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.active_experts,
        "experts_per_token": shape.active_experts,
        "sliding_window": shape.window,
        "layer_types": [kinds[shape.is_sliding(layer)] for layer in range(shape.layers)],
        "vocab_size": VOCABULARY_SIZE,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": int(shape.theta),
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": shape.factor,
            "original_max_position_embeddings": shape.original_context,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
        "max_position_embeddings": int(shape.factor) * shape.original_context,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "bos_token_id": 199998,
        "pad_token_id": 199999,
        "eos_token_id": [200002, 199999, 200012],
    }


@torch.no_grad()
def merged_rows(rows: Rows) -> np.ndarray:
    """The whole table, (VOCABULARY_SIZE, hidden), float32."""
    return rows(torch.arange(VOCABULARY_SIZE)).float().numpy()


def model_weights(network: Network) -> dict[str, mx.array]:
    """All weights under the names mlx-lm gives them."""
    weights = {
        "model.embed_tokens.weight": merged_rows(network.embed_tokens),
        "lm_head.weight": merged_rows(network.head),
    }
    for name, parameter in network.named_parameters():
        if name.startswith(("embed_tokens.", "head.")):
            continue
        name = f"model.{name}"
        for part in ("gate", "up", "down"):
            name = name.replace(f"mlp.{part}_proj", f"mlp.experts.{part}_proj.weight")
            name = name.replace(f"mlp.{part}_bias", f"mlp.experts.{part}_proj.bias")
        weights[name] = parameter.detach().float().numpy()
    for layer in range(network.shape.layers):
        sinks = np.zeros(network.shape.heads, np.float32)
        weights[f"model.layers.{layer}.self_attn.sinks"] = sinks
    return {name: mx.array(array) for name, array in weights.items()}


def load_checkpoint(path: Path) -> Network:
    """The network a checkpoint holds."""
    stored = torch.load(path, weights_only=True)
    network = Network(Shape(), stored["core"], [], code_seed=stored["seed"])
    network.load_state_dict(stored["weights"])
    return network


def export(checkpoint: Path, folder: Path, layout: str) -> None:
    """Write the model folder.

    Layout `full` quantises all matrices to 8 bits, `tables` only embedding and head.
    """
    network = load_checkpoint(checkpoint)
    config = model_config(network.shape)
    model = Model(ModelArgs.from_dict(config))
    model.load_weights(list(model_weights(network).items()))
    tables = ("embed_tokens", "lm_head")
    if layout != "float32":
        model, config = quantize_model(
            model,
            config,
            group_size=64,
            bits=8,
            quant_predicate=lambda path, _: layout == "full" or path.endswith(tables),
        )
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.safetensors"
    mx.save_safetensors(str(part), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    part.replace(folder / "model.safetensors")
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", choices=LAYOUTS, default="full")
    options = parser.parse_args()
    export(options.checkpoint, options.folder, options.layout)


if __name__ == "__main__":
    main()
