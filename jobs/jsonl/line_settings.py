"""The settings of a line, checked together with those of its batch."""

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import NULLABLE, Context, Settings, apply

from .fields import ALIASES, SETTING_KEYS, BadField, Fields, decode_field

Items = tuple[tuple[str, bytes], ...]

MAX_REMEMBERED_BYTES = 4096
"""Longer settings are checked in every line, not cached: they would fill memory."""


class SettingsPlace(NamedTuple):
    """Where settings are: the prefix of their names, and the batch's own."""

    prefix: str
    inherited: Context


def line_settings(fields: Fields, place: SettingsPlace) -> dict[str, Any]:
    """Return the checked settings of a line; null means unset where it is not a value."""
    keys = sorted(fields.keys() & SETTING_KEYS)
    items = tuple((key, bytes(fields[key])) for key in keys)
    if sum(len(raw) for _, raw in items) > MAX_REMEMBERED_BYTES:
        return _checked_settings(items, place)
    return dict(_remembered_settings(items, place))


# most lines of a file have the same settings, and checking them costs more than the rest
@lru_cache(maxsize=256)
def _remembered_settings(items: Items, place: SettingsPlace) -> dict[str, Any]:
    return _checked_settings(items, place)


def _checked_settings(items: Items, place: SettingsPlace) -> dict[str, Any]:
    fields = {key: msgspec.Raw(raw) for key, raw in items}
    values: dict[str, Any] = {}
    for key in fields:
        value = decode_field(fields, key, Any)
        name = ALIASES.get(key, key)
        if value is None and name not in NULLABLE:
            continue
        if values.get(name, value) != value:
            other = next(k for k in fields if k != key and ALIASES.get(k, k) == name)
            raise BadField(f"{place.prefix}{key}: differs from {other}")
        values[name] = value
    if values:
        try:
            apply(Settings(context=place.inherited), values)
        except SettingsError as error:
            raise BadField(f"{place.prefix}{error}") from None
    return values
