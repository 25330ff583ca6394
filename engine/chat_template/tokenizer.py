"""The tokeniser of a model that is not gpt-oss, from the model's folder; no weights needed."""

from collections.abc import Callable
from pathlib import Path

from mlx_lm import utils as mlx_lm

from .adapter import NativeAdapter


def native_adapter(
    folder: Path, before_rendering: Callable[[], None] = lambda: None
) -> NativeAdapter:
    """Return what renders and reads for the model in `folder`.

    `before_rendering` is called once the tokeniser is loaded, before its template is tried. Code
    that comes with a model is not run. Raises `ValueError` if there is no chat template that works,
    and whatever transformers raises where there is no tokeniser.
    """
    tokenizer = mlx_lm.load_tokenizer(
        folder,
        # without this, transformers prompts on the terminal
        {"trust_remote_code": False},
        eos_token_ids=mlx_lm.load_config(folder).get("eos_token_id"),
    )
    before_rendering()
    return NativeAdapter(tokenizer)
