"""Which model a command or a call means, by the name that the database has for it."""

import os
from pathlib import Path

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.models.names import MARK, join_name, split_name

from .config import Config, named_model


def default_model(config: Config, model: str | None, adapter: str | None) -> str | None:
    """Return the name of the model for those who name none, `None` if nobody names one.

    `model` and `adapter` are those of a command. An adapter goes with the model that is named at
    the same place: the configured one is not for another model. A name without a character, as of
    an empty `MH_BATCH_MODEL`, is none.
    """
    if model:
        return full_name(model, adapter)
    return full_name(config.model, adapter or config.adapter)


def full_name(model: str | None, adapter: str | os.PathLike[str] | None = None) -> str | None:
    """Return the name of a model with its `adapter`, each folder by its full path.

    `None` for no model. Raises `InputError` for an adapter without a model, or beside another.
    """
    if model is None:
        if adapter is not None:
            raise InputError("--adapter: for which model? Name it with --model")
        return None
    base, own = (model, None) if _is_folder(model) else split_name(model)
    if own is not None and adapter is not None:
        raise InputError(f"--adapter: {model} has one already, behind its {MARK}")
    name = named_model(base) or base
    added = own if adapter is None else os.fspath(adapter)
    if added is None:
        return name
    return join_name(name, str(Path(added).expanduser().resolve()) if _is_folder(added) else added)


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir()
