"""The settings of a line, checked together with those of its batch."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.answers.forms import Output, check_tool_choice, tool_choice_of
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.foreign.names import ALIASES
from mh_batch.jobs.settings import FORMS, NULLABLE, Settings, apply

from .fields import SETTING_KEYS, BadField, Fields, decode_field

Items = tuple[tuple[str, bytes], ...]

MAX_REMEMBERED_BYTES = 4096
MAX_SCHEMA_BYTES = 256 << 10
"""Longer settings, with a schema and without, are checked in every line: they would fill memory."""

_CHECKED = frozenset({*FORMS, "accept"})


class Checks(NamedTuple):
    """What an answer can be: each raises `SettingsError` for what it cannot.

    `output` takes the settings of an answer, `tool` a tool that a line declares.
    """

    output: Callable[[Output], None] = lambda _: None
    tool: Callable[[Tool], None] = lambda _: None


UNCHECKED = Checks()


class Inherited:
    """What a line inherits from its batch, and what is asked about its form and its tools.

    `model` is the batch's, for lines that name only an adapter; `None` if it has none. `left_out`
    counts the unknown keys of OpenAI bodies by name; `None` refuses them.
    """

    def __init__(
        self,
        settings: Settings,
        checks: Checks = UNCHECKED,
        model: str | None = None,
        left_out: Counter[str] | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.checks = checks
        self.left_out = left_out
        self._tool_choice = tool_choice_of(settings.output.tool_choice)

    def check_tools(self, values: dict[str, Any], tools: tuple[Tool, ...], prefix: str) -> None:
        """Raise `BadField` for a tool that cannot be kept to, or a call that no tool allows."""
        for i, tool in enumerate(tools):
            try:
                self.checks.tool(tool)
            except SettingsError as error:
                raise BadField(f"{prefix}tools[{i}]: {error}") from None
        choice = self._tool_choice
        if "tool_choice" in values:
            given = {"tool_choice": values["tool_choice"]}
            choice = tool_choice_of(apply(Settings(), given).output.tool_choice)
        try:
            check_tool_choice(choice, [tool.function.name for tool in tools])
        except SettingsError as error:
            whose = "" if "tool_choice" in values else " (the batch's tool_choice)"
            raise BadField(f"{prefix}{error}{whose}") from None


BUILT_IN = Inherited(Settings())
"""What a line inherits where nothing is set."""


class SettingsPlace(NamedTuple):
    """Where settings are: the prefix of their names, and the batch's own."""

    prefix: str
    inherited: Inherited


def line_settings(fields: Fields, place: SettingsPlace) -> dict[str, Any]:
    """Return the checked settings of a line; null means unset where it is not a value."""
    keys = sorted(fields.keys() & SETTING_KEYS)
    items = tuple((key, bytes(fields[key])) for key in keys)
    size = sum(len(raw) for _, raw in items)
    if size <= MAX_REMEMBERED_BYTES:
        return dict(_remembered(items, place))
    if size <= MAX_SCHEMA_BYTES and not _CHECKED.isdisjoint(fields):
        return dict(_remembered_schemas(items, place))
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
            applied = apply(place.inherited.settings, values)
            if not _CHECKED.isdisjoint(values):
                place.inherited.checks.output(applied.output)
        except SettingsError as error:
            raise BadField(f"{place.prefix}{error}") from None
    return values


# most lines of a file have the same settings, and checking them costs more than the rest; a schema
# may be longer than all others
_remembered = lru_cache(maxsize=256)(_checked_settings)
_remembered_schemas = lru_cache(maxsize=8)(_checked_settings)
