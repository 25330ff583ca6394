"""From a model's name to a model in memory."""

import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mlx.core as mx
from mlx_lm import utils as mlx_lm

from mh_batch.engine.adapter import Adapter
from mh_batch.engine.chat_template.tokenizer import native_adapter
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.special_tokens import VOCABULARY_SIZE
from mh_batch.jobs.errors import EnvironmentFault, ModelNotLoaded
from mh_batch.jobs.generation import ModelInfo

from .blas import blas_in_use
from .device import device
from .fingerprint import fingerprint
from .folder import cause, check_weights, find_local, read_config

# what mlx-lm takes from the hub, without the weights and the code
_RENDERING_FILES = ["*.json", "*.jsonl", "*.jinja", "*.txt", "*.tiktoken", "*.model"]
_REPORTED = ("mlx", "mlx-lm", "openai-harmony", "mh-batch")

LoadStep = Literal["load", "template"]
"""What a load is at: reading files takes as long as it takes, trying a template does not."""

Tell = Callable[[LoadStep], None]


def tell_nobody(_: LoadStep) -> None:
    """Serve where nobody asks what a load is at."""


class LoadedModel(NamedTuple):
    """A model ready to generate, on the thread that loaded it: MLX streams belong to threads."""

    model: Any
    adapter: Adapter
    info: ModelInfo


class PromptRenderer(NamedTuple):
    """What renders for a model, and how many tokens it was made for (`None`: it does not say)."""

    adapter: Adapter
    context_tokens: int | None


def load(name: str, tell: Tell = tell_nobody) -> LoadedModel:
    """Load a model by name: `demo`, a folder, or a hub name (downloaded by mlx-lm if need be).

    All weights are in memory when this returns. `tell` is told what it is at, whenever that
    changes. Code that comes with a model is not run. Raises `ModelNotLoaded` with the name and the
    cause.
    """
    folder = find(name)
    config = read_config(name, folder)
    architecture = config["model_type"]
    check_weights(name, folder)
    try:
        model, config = mlx_lm.load_model(folder, lazy=False, trust_remote_code=False)
        adapter = _adapter(architecture, folder, config, tell)
        _try_once(model)
    except EnvironmentFault:
        raise
    except Exception as error:
        raise ModelNotLoaded(f"{name}: does not load: {cause(error)}") from error
    info = ModelInfo(
        name=name,
        fingerprint=fingerprint(folder),
        architecture=architecture,
        adapter=adapter.name,
        device=device(),
        context_tokens=_context_tokens(config),
        versions={
            "python": platform.python_version(),
            **{package: version(package) for package in _REPORTED},
            "blas": str(blas_in_use() or "unknown"),
        },
    )
    return LoadedModel(model, adapter, info)


def load_renderer(name: str, tell: Tell = tell_nobody) -> PromptRenderer:
    """Return what renders for a model; its weights are neither fetched nor read.

    `tell` is told what it is at, whenever that changes. Raises `ModelNotLoaded` with the name and
    the cause.
    """
    folder = find(name, _fetch_rendering)
    config = read_config(name, folder)
    try:
        adapter = _adapter(config["model_type"], folder, config, tell)
        return PromptRenderer(adapter, _context_tokens(config))
    except EnvironmentFault:
        raise
    except Exception as error:
        raise ModelNotLoaded(f"{name}: does not load: {cause(error)}") from error


def _fetch_whole(name: str) -> Path:
    return Path(mlx_lm._download(name))


def _fetch_rendering(name: str) -> Path:
    from huggingface_hub import snapshot_download  # here, because most models need none

    return Path(snapshot_download(name, allow_patterns=_RENDERING_FILES))


def find(name: str, fetch: Callable[[str], Path] = _fetch_whole) -> Path:
    """Return the folder of a model; `fetch` takes it from the hub if it is not here.

    Raises `ModelNotLoaded`.
    """
    if (folder := find_local(name)) is not None:
        return folder
    try:
        return fetch(name)
    except Exception as error:
        raise ModelNotLoaded(
            f"{name}: no such folder, and the hub did not give it: {cause(error)}"
        ) from error


def _adapter(architecture: str, folder: Path, config: dict[str, Any], tell: Tell) -> Adapter:
    """Return what renders and reads for the model."""
    if architecture == "gpt_oss":
        # an id beyond the embedding would read whatever lies behind it in memory
        if (size := config.get("vocab_size", VOCABULARY_SIZE)) < VOCABULARY_SIZE:
            raise ValueError(f"a vocabulary of {size} tokens; Harmony has {VOCABULARY_SIZE}")
        return HarmonyAdapter()
    adapter = native_adapter(folder, partial(tell, "template"))
    tell("load")
    return adapter


def _try_once(model: Any) -> None:
    """Run one token, so that what this device cannot do shows now and not in a job.

    (Unquantised bf16 experts, for one, do not run on a CPU.)
    """
    mx.eval(model(mx.array([[0]], dtype=mx.uint32)))


def _context_tokens(config: dict[str, Any]) -> int | None:
    """Return how many tokens the model was made for, `None` if it does not say."""
    for part in (config, config.get("text_config") or {}):
        if isinstance(tokens := part.get("max_position_embeddings"), int) and tokens > 0:
            return tokens
    return None
