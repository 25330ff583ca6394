"""Small models and their folders, made once."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm import tokenizer_utils
from mlx_lm.models import gpt_oss, llama

from helpers.small_models import CHATML, GPT_OSS, LLAMA, TEMPLATES, hugging_face, write_model
from mh_batch.engine.chat_template.adapter import NativeAdapter


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], NativeAdapter]:
    """Makes the adapter for a kind of tokeniser and a named template, once, as a load does."""
    made: dict[tuple[str, str], NativeAdapter] = {}

    def make(kind: str, template: str) -> NativeAdapter:
        if (kind, template) not in made:
            folder = tmp_path_factory.mktemp("tokeniser")
            hugging_face(kind, TEMPLATES[template]).save_pretrained(folder)
            made[kind, template] = NativeAdapter(tokenizer_utils.load(folder))
        return made[kind, template]

    return make


@pytest.fixture(scope="session")
def gpt_oss_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random gpt-oss, without a tokeniser file."""
    return write_model(tmp_path_factory.mktemp("gpt-oss"), gpt_oss, GPT_OSS, mx.float32)


@pytest.fixture(scope="session")
def bf16_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt-oss that a CPU cannot run."""
    return write_model(tmp_path_factory.mktemp("bf16"), gpt_oss, GPT_OSS, mx.bfloat16)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama-type model with a ChatML tokeniser."""
    folder = write_model(tmp_path_factory.mktemp("llama"), llama, LLAMA, mx.float32)
    hugging_face("byte level", CHATML).save_pretrained(folder)
    return folder
