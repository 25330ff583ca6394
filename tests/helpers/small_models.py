"""Models and tokenisers small enough to be made in the tests."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import deepseek_v32, falcon_h1, gpt_oss, llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# one set for all families, so that any of them can turn up in a text meant for another
CONTROL = (
    "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]",
    "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "[TOOL_CALLS]", "[ARGS]",
)  # fmt: skip
MARKUP = ("<think>", "</think>", "<tool_call>", "</tool_call>")
CORPUS = ["hello there the user asks what is the answer and the model thinks about it"] * 20

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% if m.role == 'system' %}Today Date: {{ date_string or strftime_now('%d') }}\n\n"
    "{% endif %}{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>"
    "{% endif %}{% endfor %}"
)
QWEN = (
    "{% if tools %}<|im_start|>system\n"
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{% set tool_call = c.function %}<tool_call>"
    '{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}'
    "</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
MISTRAL_CALLS = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.tool_calls %}{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name }}[ARGS]"
    "{{ c.function.arguments | tojson }}{% endfor %}</s>"
    "{% elif m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
# its calls name no types, so what they mean takes the schema of the function
QWEN_CODER = CHATML + "{# <tool_call>\n<function=name> #}"
FORGETS_SYSTEM = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)
# as the first of Vicuna's and Mistral's: what opens and closes a question is text
NO_CONTROL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} ASSISTANT:"
    "{% elif m.role == 'system' %}{{ m.content }}\n\n{% else %} {{ m.content }}\n{% endif %}"
    "{% endfor %}"
)
# as Qwen3.5's: it thinks unless it is told not to
MAY_THINK = (
    "{% if persona %}<|im_start|>system\n{{ persona }}<|im_end|>\n{% endif %}"
    + CHATML.removesuffix("{% endif %}")
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)
TEMPLATES = {
    "may think": MAY_THINK,
    "ChatML": CHATML,
    "Llama-3": LLAMA3,
    "Mistral, no system role": MISTRAL,
    "Mistral, calls": MISTRAL_CALLS,
    "Qwen, opens thinking": QWEN,
    "Qwen, calls only": QWEN.replace("assistant\n<think>\n", "assistant\n"),
    "Qwen Coder": QWEN_CODER,
    "drops system messages": FORGETS_SYSTEM,
    "no control tokens": NO_CONTROL,
    "asks the clock": '{{ strftime_now("it\'s %A, %d %B") }}\n' + CHATML,
}


def byte_level() -> Tokenizer:
    """Like Llama-3 and Qwen: control tokens stand beside the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet)
    )
    return tokenizer


def metaspace() -> Tokenizer:
    """Like Llama-2 and Mistral: control tokens and bytes are pieces of the vocabulary."""
    alphabet = sorted({"▁", "\n", *string.printable} - {" "})
    pieces = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet, "he", "th", "▁th"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            [("h", "e"), ("t", "h"), ("▁", "th")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """Like T5 and Gemma's forebears: a whole control token could match as a piece of text."""
    alphabet = sorted({"▁", "\n", *string.printable} - {" "})
    scored = [(piece, -1.0) for piece in (*CONTROL, *MARKUP)] + [(c, -4.0) for c in alphabet]
    tokenizer = Tokenizer(models.Unigram(scored, 0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "metaspace": metaspace,
    "unigram": unigram,
}


def hugging_face(kind: str, template: str) -> Any:
    """A Hugging Face tokeniser of one kind with one chat template."""
    tokenizer = KINDS[kind]()
    tokenizer.add_special_tokens(list(CONTROL))
    tokenizer.add_tokens([*MARKUP, "<table>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template,
        bos_token="<s>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )


def random_model(module: Any, config: dict[str, Any]) -> Any:
    """A model of random float32 weights, the same each time."""
    mx.random.seed(0)
    model = module.Model(module.ModelArgs.from_dict(config))
    # larger than the usual initial weights, so that the next token is not the same for ever
    model.load_weights([(name, value * 4) for name, value in tree_flatten(model.parameters())])
    mx.eval(model.parameters())
    return model


def write_model(folder: Path, module: Any, config: dict[str, Any], dtype: Any) -> Path:
    """Save random weights as mlx-lm finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_model(module, config)
    weights = {name: value.astype(dtype) for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


GPT_OSS = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "vocab_size": 201_088,
    "hidden_size": 8,
    "intermediate_size": 8,
    "head_dim": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "sliding_window": 16,
    "max_position_embeddings": 512,
    "layer_types": ["sliding_attention", "full_attention"],
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": 512,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


# four of eight experts for each token
EXPERTS: tuple[Any, dict[str, Any]] = (
    gpt_oss,
    GPT_OSS | {"vocab_size": 300, "num_local_experts": 8, "num_experts_per_tok": 4},
)
SMALL = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt_oss": (gpt_oss, GPT_OSS | {"vocab_size": 300}),
    "llama": (llama, LLAMA),
    # attention and another kind of state, side by side in each layer
    "falcon_h1": (
        falcon_h1,
        SMALL
        | {
            "head_dim": 8,
            "mamba_d_head": 8,
            "mamba_d_ssm": 16,
            "mamba_d_state": 8,
            "mamba_n_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 10000.0,
        },
    ),
    # two caches in each layer, the second to choose the positions of the first; with fewer index
    # heads many positions are equally good, and which of them are chosen depends on their order
    "deepseek_v32": (
        deepseek_v32,
        SMALL
        | {
            "index_head_dim": 8,
            "index_n_heads": 16,
            "index_topk": 16,
            "moe_intermediate_size": 8,
            "num_key_value_heads": 2,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "first_k_dense_replace": 2,
        },
    ),
}
