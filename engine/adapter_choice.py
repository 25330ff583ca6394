"""Which adapter a model gets; nothing else in the program chooses between them.

Each factory imports its adapter late: a model with a chat template never loads openai-harmony, and
completions of gpt-oss are read again without MLX.
"""

from collections.abc import Callable
from pathlib import Path

from .adapter import Adapter

HARMONY, NATIVE = "harmony", "native"

BeforeRendering = Callable[[], None]
"""Called once a chat template is about to be tried; a template is a program and may never end."""


def adapter_name(architecture: str) -> str:
    """Return the name of the adapter for the `model_type` of a model's configuration."""
    return HARMONY if architecture == "gpt_oss" else NATIVE


def make_adapter(
    name: str, find_folder: Callable[[], Path], before_rendering: BeforeRendering = lambda: None
) -> Adapter:
    """Return the adapter called `name`, for the model in the folder that `find_folder` returns.

    Only an adapter that needs the model's tokeniser asks for the folder. Raises `LookupError` for
    an unknown name, `ValueError` for a model without a chat template that works,
    `EnvironmentFault` where the Harmony vocabulary is missing, and whatever transformers raises
    where there is no tokeniser.
    """
    return _FACTORIES[name](find_folder, before_rendering)


def _harmony(_find_folder: Callable[[], Path], _before_rendering: BeforeRendering) -> Adapter:
    from .harmony.adapter import HarmonyAdapter

    return HarmonyAdapter()


def _native(find_folder: Callable[[], Path], before_rendering: BeforeRendering) -> Adapter:
    from .chat_template.tokenizer import native_adapter

    return native_adapter(find_folder(), before_rendering)


_FACTORIES = {HARMONY: _harmony, NATIVE: _native}
ADAPTERS = frozenset(_FACTORIES)
