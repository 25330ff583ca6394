"""The model that a line names: by `model`, and with an adapter by `adapter` beside it."""

from mh_batch.jobs.models.names import MARK, join_name, split_name

from .fields import BadField, Fields, decode_field
from .line_settings import SettingsPlace

MAX_MODEL_CHARS = 4096


def line_model(fields: Fields, place: SettingsPlace) -> str | None:
    """Return the name of the model that a line names, `None` if it names none.

    An adapter without a model goes with the batch's. Raises `BadField` for what is no name, and for
    an adapter without any model or beside another.
    """
    model = _name(fields, "model", place.prefix)
    adapter = _name(fields, "adapter", place.prefix)
    if adapter is None:
        return model
    path = f"{place.prefix}adapter"
    if model is None and place.inherited.model is not None:
        model = split_name(place.inherited.model).model
    if model is None:
        raise BadField(f"{path}: for which model? Name it beside it, or with --model")
    try:
        return join_name(model, adapter)
    except ValueError:
        raise BadField(f"{path}: the model has one already behind its {MARK}") from None


def _name(fields: Fields, key: str, prefix: str) -> str | None:
    """Return what a line has under a key, `None` for nothing or null."""
    name: str | None = decode_field(fields, key, str | None, f"{prefix}{key}")
    if name == "":
        raise BadField(f"{prefix}{key}: empty")
    if name is not None and (len(name) > MAX_MODEL_CHARS or not name.isprintable()):
        raise BadField(f"{prefix}{key}: no name of {'a model' if key == 'model' else 'a folder'}")
    return name
