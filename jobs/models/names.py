"""A model's name: what it is loaded from, and with an adapter both parts as one name.

`demo//adapters/night1` is the demo model with the adapter in the folder `adapters/night1`. Two
slashes stand between the parts because no path needs them: they mean the same as one, and neither
`demo` nor a hub name has them. So every name has one meaning, whatever characters its folders have
in their own names.
"""

import re
from typing import NamedTuple

MARK = "//"

_SLASHES = re.compile("/{2,}")


class ModelName(NamedTuple):
    """The parts of a name; `adapter` is a folder, `None` for a model as it is."""

    model: str
    adapter: str | None = None


def split_name(name: str) -> ModelName:
    """Return the parts of a model's name."""
    model, mark, adapter = name.partition(MARK)
    return ModelName(model, adapter) if mark else ModelName(name)


def join_name(model: str, adapter: str) -> str:
    """Return the name of a model with an adapter.

    Raises `ValueError` where `model` names an adapter already.
    """
    if split_name(model).adapter is not None:
        raise ValueError(f"{model} names an adapter already")
    return f"{model.rstrip('/') or '/'}{MARK}{_SLASHES.sub('/', adapter.rstrip('/'))}"
