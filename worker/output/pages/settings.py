"""The settings of a batch as rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mh_batch.jobs.settings import GROUPS, Settings
from mh_batch.store.queue.freezing import filled_with
from mh_batch.store.reports.batch_page import Model


class Setting(msgspec.Struct, frozen=True):
    """A setting of the batch; `changed` if it differs from the default."""

    name: str
    value: str
    changed: bool


def settings_used(text: str, models: Sequence[Model]) -> str:
    """Return the settings of a batch with what its model filled, both as JSON.

    Where its models differ in that, as it was submitted.
    """
    filling = {model.defaults for model in models}
    if len(filling) != 1:
        return text
    settings = filled_with(filling.pop(), msgspec.json.decode(text, type=Settings))
    return msgspec.json.encode(settings).decode()


def defaults_text(defaults: str | None) -> str:
    """Return the frozen defaults of a model as a text, empty for none."""
    values = {} if defaults is None else msgspec.json.decode(defaults, type=dict[str, int | float])
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


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
