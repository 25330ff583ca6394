"""Adds what `mlx_lm.lora` wrote to a model: the adapter in a model's name.

mlx-lm makes the layers that the adapter's configuration names. What fills them is checked here:
where the two do not belong together, a part of the adapter would be left at values that change
nothing, and the answers would be the model's own.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mh_batch.jobs.errors import ModelNotLoaded

from .adapter_folder import CONFIG, WEIGHTS
from .folder import cause

ADDED = frozenset({"lora_a", "lora_b", "m"})
"""The names of the tensors that mlx-lm's layers add to a model's."""

MOST_NAMED = 3

Tensors = dict[str, mx.array]


def apply_fine_tune(name: str, model: Any, folder: Path) -> None:
    """Add the adapter in `folder`, which has been checked, to a loaded model.

    All its weights are in memory when this returns. Raises `ModelNotLoaded` with the `name` of both
    if the adapter does not fit the model.
    """
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    kind = config.get("fine_tune_type", "lora")
    before = _tensors(model).keys()
    if kind != "full":
        try:
            parameters = config["lora_parameters"]
            linear_to_lora_layers(model, config["num_layers"], parameters, kind == "dora")
        except Exception as error:  # whatever mlx-lm makes of layers that cannot have an adapter
            raise _refused(name, cause(error)) from error
    given: Any = mx.load(str(folder / WEIGHTS))
    own = _tensors(model)
    if kind != "full":
        own = {key: own[key] for key in own.keys() - before if key.rpartition(".")[2] in ADDED}
    if (found := find_misfit(given, own, partly=kind == "full")) is not None:
        raise _refused(name, found)
    model.load_weights(list(given.items()), strict=False)
    # the new layers are made for training: they would drop out at random
    model.eval()
    mx.eval(model.parameters())


def find_misfit(given: Tensors, own: Tensors, *, partly: bool) -> str | None:
    """Return what does not fit between an adapter's tensors and those that a model has for them.

    `None` if all does; `partly` says that not all need be given.
    """
    if not given:
        return f"{WEIGHTS} is empty"
    if others := [key for key in given if key not in own]:
        return f"the model has no place for {_listed(others)}"
    for key, value in given.items():
        if value.shape != own[key].shape:
            return f"{key} has the shape {value.shape} where the model has {own[key].shape}"
    if not partly and (missing := [key for key in own if key not in given]):
        return f"{WEIGHTS} lacks {_listed(missing)}, which {CONFIG} asks for"
    return None


def _tensors(model: Any) -> Tensors:
    return dict(tree_flatten(model.parameters()))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(sorted(names)[:MOST_NAMED])}{more}"


def _refused(name: str, found: str) -> ModelNotLoaded:
    return ModelNotLoaded(
        f"{name}: its adapter does not fit the model: {found}; name the model that it was "
        "trained on"
    )
