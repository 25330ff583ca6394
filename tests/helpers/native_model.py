"""A llama of random weights with a chat template of the test's own, small enough to be made there.

What it says means nothing. A conversation that holds `NEVER` is one whose template never ends.
"""

from pathlib import Path

import mlx.core as mx
from mlx_lm.models import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.small_models import CHATML, LLAMA, write_model

NEVER = "never"

# the sandbox bounds one range, and so a chain of them has more rounds than anybody waits for
_FOR_EVER = "{% for i in range(99999) %}" * 4 + "{% endfor %}" * 4
ENDLESS = _FOR_EVER + CHATML
ENDLESS_ON_ONE = (
    "{% if messages[-1].content == '" + NEVER + "' %}" + ENDLESS + "{% endif %}" + CHATML
)
FAILS = "{{ messages[0].content.no_such_thing() }}" + CHATML
FAILS_ON_ANSWERS = (
    "{% for m in messages if m.role == 'assistant' %}{{ raise_exception('one turn') }}{% endfor %}"
) + CHATML


def native_model(folder: Path, template: str, context_tokens: int = 512) -> Path:
    """Write the model into `folder` and return it."""
    config = LLAMA | {"max_position_embeddings": context_tokens}
    write_model(folder, llama, config, mx.float32)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, eos_token="<|im_end|>"
    ).save_pretrained(folder)
    return folder
