"""The settings of a batch as rows."""

from collections.abc import Iterator
from typing import Any

import msgspec

from mh_batch.jobs.settings import GROUPS, Settings


class Setting(msgspec.Struct, frozen=True):
    """A setting of the batch; `changed` if it differs from the default."""

    name: str
    value: str
    changed: bool


def settings_rows(text: str) -> list[Setting]:
    """Return the settings of a batch by name, the changed ones first."""
    defaults = dict(_flat(msgspec.json.decode(msgspec.json.encode(Settings()))))
    rows = [
        Setting(name, msgspec.json.encode(value).decode(), value != defaults.get(name))
        for name, value in _flat(msgspec.json.decode(text))
    ]
    return sorted(rows, key=lambda row: not row.changed)


def settings_apart(a: str, b: str) -> list[tuple[str, str, str]]:
    """Return the settings that differ between two batches: name and both values."""
    left, right = ({row.name: row.value for row in settings_rows(text)} for text in (a, b))
    names = dict.fromkeys([*left, *right])
    pairs = ((name, left.get(name, "-"), right.get(name, "-")) for name in names)
    return [row for row in pairs if row[1] != row[2]]


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of all groups by their own names, which are unique."""
    for name, value in values.items():
        if isinstance(value, dict) and name in GROUPS.values():
            yield from _flat(value)
        else:
            yield name, value
