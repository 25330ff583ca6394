"""Loads a model by its name."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mlx.core as mx
from mlx_lm import utils as mlx_lm

from mh_batch.engine.adapter import Adapter
from mh_batch.engine.adapter_choice import adapter_name, make_adapter
from mh_batch.engine.mlx_lm_internals import download
from mh_batch.jobs.errors import EnvironmentFault, ModelNotLoaded
from mh_batch.jobs.generation import ModelInfo
from mh_batch.jobs.models.names import split_name

from .adapter_folder import find_adapter
from .blas import blas_in_use
from .device import device, hardware
from .fine_tune import apply_fine_tune
from .fingerprint import fingerprint
from .folder import cause, check_weights, find_local, read_config
from .generation_config import sampling_defaults

# the files that mlx-lm fetches from the hub, without weights and code
_RENDERING_FILES = ["*.json", "*.jsonl", "*.jinja", "*.txt", "*.tiktoken", "*.model"]
_REPORTED = ("mlx", "mlx-lm", "openai-harmony", "llguidance", "mh-batch")

LoadStep = Literal["load", "template"]
"""The step that a load is at: reading files may take long, trying a chat template may not."""

ReportStep = Callable[[LoadStep], None]


def ignore_step(_: LoadStep) -> None:
    """Take the report of a step where nobody wants it."""


class LoadedModel(NamedTuple):
    """A model ready to generate, on the thread that loaded it: MLX streams belong to threads."""

    model: Any
    adapter: Adapter
    info: ModelInfo


class PromptRenderer(NamedTuple):
    """Renders prompts for a model; `context_tokens` is `None` if the model does not say it."""

    adapter: Adapter
    context_tokens: int | None


def load(name: str, report: ReportStep = ignore_step) -> LoadedModel:
    """Load a model by name: `demo`, a folder, or a hub name (downloaded by mlx-lm if need be).

    An adapter in the name is added to it. All weights are in memory when this returns. Each step of
    the load is passed to `report` as it begins. Code that comes with a model is not run. Raises
    `ModelNotLoaded` with the name and the cause.
    """
    added = find_adapter(name)
    folder = find(name)
    config = read_config(name, folder)
    check_weights(name, folder)
    with _named(name):
        model, config = mlx_lm.load_model(folder, lazy=False, trust_remote_code=False)
        if added is not None:
            apply_fine_tune(name, model, added)
        adapter = _adapter(folder, config, report)
        _try_once(model)
    defaults = sampling_defaults(folder)
    info = ModelInfo(
        name=name,
        fingerprint=fingerprint(folder, added),
        architecture=config["model_type"],
        adapter=adapter.name,
        device=device(),
        context_tokens=_context_tokens(config),
        versions={
            "python": platform.python_version(),
            **{package: version(package) for package in _REPORTED},
            "blas": str(blas_in_use() or "unknown"),
        },
        hardware=hardware(),
        defaults=defaults.values,
        not_used=defaults.not_used,
    )
    return LoadedModel(model, adapter, info)


def load_renderer(name: str, report: ReportStep = ignore_step) -> PromptRenderer:
    """Return what renders for a model; its weights are neither fetched nor read.

    Each step of the load is passed to `report` as it begins. Raises `ModelNotLoaded` with the name
    and the cause.
    """
    find_adapter(name)
    folder = find(name, _fetch_rendering)
    config = read_config(name, folder)
    with _named(name):
        return PromptRenderer(_adapter(folder, config, report), _context_tokens(config))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise whatever is wrong with a model as `ModelNotLoaded`, with its name."""
    try:
        yield
    except EnvironmentFault:
        raise
    except Exception as error:
        raise ModelNotLoaded(f"{name}: does not load: {cause(error)}") from error


def _fetch_rendering(name: str) -> Path:
    from huggingface_hub import snapshot_download  # here, because most models need none

    return Path(snapshot_download(name, allow_patterns=_RENDERING_FILES))


def find(name: str, fetch: Callable[[str], Path] = download) -> Path:
    """Return the folder of a model; `fetch` downloads it if it is not on this machine.

    Raises `ModelNotLoaded`.
    """
    if (folder := find_local(name)) is not None:
        return folder
    try:
        return fetch(split_name(name).model)
    except Exception as error:
        raise ModelNotLoaded(
            f"{name}: no such folder, and could not be downloaded: {cause(error)}"
        ) from error


def _adapter(folder: Path, config: dict[str, Any], report: ReportStep) -> Adapter:
    """Return what renders and reads for the model."""
    name = adapter_name(config["model_type"])
    adapter = make_adapter(name, lambda: folder, partial(report, "template"))
    report("load")
    # an id beyond the embedding would read whatever lies behind it in memory
    least = adapter.least_vocabulary
    if (size := config.get("vocab_size", least)) < least:
        raise ValueError(f"a vocabulary of {size} tokens; this format takes {least}")
    return adapter


def _try_once(model: Any) -> None:
    """Run one token, so that a model this device cannot run fails here and not in a job.

    Unquantised bf16 experts, for example, do not run on a CPU.
    """
    mx.eval(model(mx.array([[0]], dtype=mx.uint32)))


def _context_tokens(config: dict[str, Any]) -> int | None:
    """Return the context length that the configuration names, `None` if it names none."""
    for part in (config, config.get("text_config") or {}):
        if isinstance(tokens := part.get("max_position_embeddings"), int) and tokens > 0:
            return tokens
    return None
