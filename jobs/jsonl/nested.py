"""Objects of settings in a line, such as vLLM's `sampling_params` and Ollama's `options`."""

import msgspec

from mh_batch.jobs.foreign.name import kind_of
from mh_batch.jobs.foreign.names import FOREIGN, NESTED

from .fields import (
    ALWAYS_NESTED,
    INNER_KEYS,
    BadField,
    Fields,
    InBody,
    decode_field,
    decoder,
    unknown_fields,
)
from .line_settings import SettingsPlace, line_settings


def opened(fields: Fields, place: SettingsPlace) -> Fields:
    """Return fields with the members of their objects of settings beside them, checked.

    Raises `BadField` for a member that is no setting, or that differs from a field beside it.
    """
    names = [name for name in NESTED if name in fields and holds_settings(name, fields[name])]
    if not names:
        return fields
    together = {name: raw for name, raw in fields.items() if name not in names}
    for name in names:
        path = f"{place.prefix}{name}"
        members = decode_field(fields, name, dict[str, msgspec.Raw] | None, path) or {}
        inner = SettingsPlace(f"{path}.", place.inherited)
        unknown_fields(members, INNER_KEYS, inner.prefix, InBody(place.inherited.left_out))
        line_settings(members, inner)
        for key in members.keys() & INNER_KEYS:
            if bytes(together.setdefault(key, members[key])) != bytes(members[key]):
                raise BadField(f"{inner.prefix}{key}: differs from {place.prefix}{key}")
    return together


def holds_settings(name: str, raw: msgspec.Raw) -> bool:
    """Whether a value is an object of settings; `options` may be the choices of a question."""
    if name in ALWAYS_NESTED:
        return True
    if kind_of(bytes(raw)) != "object":
        return False
    members = decoder(dict[str, msgspec.Raw]).decode(raw)
    return any(key in INNER_KEYS or (key in FOREIGN and FOREIGN[key].refused) for key in members)
