"""Every private name of mlx-lm that the engine uses, each behind a function that says what for.

mlx-lm may change them in any release. So `pyproject.toml` keeps it below the next minor version,
and `tests/engine/test_mlx_lm_internals.py` fails for each name that no longer does what it says
here.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mlx_lm import utils
from mlx_lm.models.base import scaled_dot_product_attention
from mlx_lm.models.switch_layers import SwitchGLU, SwitchMLP

ATTENTION = scaled_dot_product_attention
"""What models call to attend; each imports it into its own module."""

SORTED_FROM = 64
"""From so many pairs of row and expert on, a layer of experts sorts them: another kernel."""


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


def attention_modules(model: Any) -> tuple[ModuleType, ...]:
    """Return the Python modules in which the model's code finds `ATTENTION` by its global name."""
    kinds = {kind for part in model.modules() for kind in type(part).__mro__}
    names = {kind.__module__ for kind in kinds if kind.__module__.startswith("mlx_lm.models.")}
    modules = (sys.modules[name] for name in sorted(names))
    return tuple(m for m in modules if vars(m).get(ATTENTION.__name__) is ATTENTION)


def expert_layers() -> tuple[type, ...]:
    """Return the kinds of layers that sort their rows by expert from `SORTED_FROM` on."""
    return SwitchGLU, SwitchMLP
