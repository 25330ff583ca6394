"""Finds the folder of the adapter in a model's name and checks it, without MLX."""

import json
from pathlib import Path
from typing import Any

from mh_batch.jobs.errors import ModelNotLoaded
from mh_batch.jobs.models.names import split_name

from .folder import cause
from .weights import find_error

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"
_KINDS = ("lora", "dora", "full")
_CURE = "an adapter is the folder that mlx_lm.lora wrote, its --adapter-path"


def find_adapter(name: str) -> Path | None:
    """Return the folder of the adapter in a model's name, `None` if there is none in the name.

    Raises `ModelNotLoaded`, naming what is wrong, for anything but a complete adapter of mlx-lm.
    """
    adapter = split_name(name).adapter
    if adapter is None:
        return None
    folder = Path(adapter).expanduser()
    if not adapter.strip() or not folder.exists():
        raise ModelNotLoaded(f"{name}: no such adapter folder: {adapter or '(no name)'}; {_CURE}")
    if not folder.is_dir():
        raise ModelNotLoaded(f"{name}: {adapter} is a file; {_CURE}")
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ModelNotLoaded(f"{name}: no {file} in {folder}; {_CURE}")
    if (found := _find_error(folder)) is not None:
        raise ModelNotLoaded(f"{name}: {found}; copy the adapter again, or train it again")
    return folder


def _find_error(folder: Path) -> str | None:
    """Return what is wrong with the two files of an adapter, `None` if nothing is."""
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        found = _config_error(config)
        return f"{CONFIG} {found}" if found is not None else find_error(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        return f"{folder}: the adapter is not readable: {cause(error)}"


def _config_error(config: Any) -> str | None:
    """Return what keeps mlx-lm from using a configuration, `None` if nothing does."""
    if not isinstance(config, dict):
        return "is no JSON object"
    if "peft_type" in config:
        return "is of PEFT, whose adapters mlx-lm does not read"
    kind = config.get("fine_tune_type", "lora")
    if kind not in _KINDS:
        return f"names the fine_tune_type {kind!r}, which is none of {', '.join(_KINDS)}"
    if kind == "full":
        return None
    if not isinstance(config.get("num_layers"), int):
        return "names no num_layers"
    parameters = config.get("lora_parameters")
    keys = ("rank", "scale", "dropout")
    if not isinstance(parameters, dict) or any(key not in parameters for key in keys):
        return f"names no lora_parameters with {', '.join(keys)}"
    return None
