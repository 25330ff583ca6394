"""Every private name of mlx-lm that the engine uses, each behind a function that says what for.

mlx-lm may change them in any release. So `pyproject.toml` keeps it below the next minor version,
and `tests/engine/test_mlx_lm_internals.py` fails for each name that no longer does what it says
here.
"""

from pathlib import Path
from typing import Any

from mlx_lm import utils


def download(name: str) -> Path:
    """Return the folder of a model, with all that mlx-lm loads, fetched from the hub if need be."""
    return Path(utils._download(name))


def inner_tokenizer(wrapper: Any) -> Any:
    """Return the Hugging Face tokeniser inside mlx-lm's `TokenizerWrapper`.

    The wrapper sets `enable_thinking` when it renders; the template's own default is wanted.
    """
    return wrapper._tokenizer


def has_own_renderer(wrapper: Any) -> bool:
    """Whether mlx-lm renders prompts by a function of its own.

    It does so for families whose checkpoints have no template.
    """
    return wrapper._chat_template is not None


def ring_position(cache: Any) -> int:
    """Return the column behind the one that a `RotatingKVCache` has written last."""
    return int(cache._idx)
