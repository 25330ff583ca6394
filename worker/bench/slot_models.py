"""Models of random float32 weights that are limited by memory, as models on a GPU are.

Their output means nothing. A step of one row reads all weights that it uses, and so does a step of
several rows.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models import gpt_oss, llama
from mlx_lm.utils import save_model

from mh_batch.engine.model.folder import DEMO
from mh_batch.engine.model.load import find

from .workload import SEED, ModelSize

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|im_start|>", "<|im_end|>")


def write_dense(folder: Path, size: ModelSize) -> None:
    """Write a llama with a tokenizer of single bytes; input and output share the embedding."""
    heads = max(2, size.hidden // 128)
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.hidden * 8 // 3,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": 16384,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }
    _write(folder, llama, config)
    _write_tokenizer(folder)


def write_experts(folder: Path, size: ModelSize) -> None:
    """Write a gpt-oss with 32 experts, four of them for each token, as the published ones have."""
    heads = size.hidden // 64
    kinds = ("sliding_attention", "full_attention")
    config: dict[str, Any] = json.loads((find(DEMO) / "config.json").read_text("utf-8"))
    del config["quantization"]
    config.pop("quantization_config", None)
    config |= {
        "hidden_size": size.hidden,
        "intermediate_size": 4 * size.hidden,
        "head_dim": 64,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "num_hidden_layers": size.layers,
        "layer_types": [kinds[layer % 2] for layer in range(size.layers)],
    }
    _write(folder, gpt_oss, config)


def _write(folder: Path, module: Any, config: dict[str, Any]) -> None:
    mx.random.seed(SEED)
    model = module.Model(module.ModelArgs.from_dict(config))
    folder.mkdir()
    save_model(folder, model)
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=TEMPLATE,
        eos_token=CONTROL[1],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
