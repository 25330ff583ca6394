"""`mh-batch.toml` in the current folder: defaults that flags and lines override."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import InputError, SettingsError
from mh_batch.jobs.settings import (
    FORMS,
    MAX_LINE_MIB,
    MOST_LINE_MIB,
    NAMES,
    EngineOptions,
    Settings,
    apply,
    profile_values,
)

from .options import WorkerSettings

CONFIG_NAME = "mh-batch.toml"


class Config(WorkerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file; `None` means that it is not set.

    `settings`, `profile` and `max_line_mib` are for submitted files, the rest is for the worker.
    `adapter` goes with `model`.
    `notify` is the command of `--notify`.
    """

    model: str | None = None
    adapter: str | None = None
    profile: str | None = None
    notify: Annotated[str, Meta(min_length=1)] | None = None
    max_line_mib: Annotated[int, Meta(ge=1, le=MOST_LINE_MIB)] = MAX_LINE_MIB
    settings: dict[str, Any] = msgspec.field(default_factory=dict)


CONFIG_NAMES = frozenset(Config.__struct_fields__)
ENGINE_NAMES = frozenset(EngineOptions.__struct_fields__)


def read_config(folder: Path) -> Config:
    """Read the configuration in `folder`, or return the defaults if there is none.

    Raises `InputError` naming the invalid key.
    """
    path = folder / CONFIG_NAME
    try:
        content = msgspec.toml.decode(path.read_bytes())
        _check_names(content, Config, "")
        _check_names(content.get("engine"), EngineOptions, "engine.")
        config = msgspec.convert(content, Config)
        if config.profile is not None:
            profile_values(config.profile)
        apply(Settings(), config.settings)
        if config.adapter is not None and config.model is None:
            raise SettingsError("adapter: for which model? Set `model` as well")
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise InputError(f"{CONFIG_NAME}: {error.strerror}") from None
    except (msgspec.DecodeError, SettingsError, UnicodeDecodeError) as error:
        raise InputError(f"{CONFIG_NAME}: {error}") from None
    return config


def _check_names(table: object, kind: type[msgspec.Struct], path: str) -> None:
    """Raise `SettingsError` for a key that `kind` does not have, with the likely cure.

    That is the table it belongs into, or the nearest name. A value that is not a table is left to
    the decoder.
    """
    known = {field.name for field in msgspec.structs.fields(kind)}
    for name in table if isinstance(table, dict) else ():
        if name in known:
            continue
        elsewhere = {"settings": NAMES, "engine": ENGINE_NAMES, "": CONFIG_NAMES}
        homes = [home for home, names in elsewhere.items() if name in names]
        if homes:
            cure = f"it belongs into [{homes[0]}]" if homes[0] else "it belongs above all tables"
        elif near := nearest(name, known):
            cure = f"did you mean {path}{near}?"
        else:
            cure = f"known: {', '.join(sorted(path + each for each in known))}"
        raise SettingsError(f"unknown key {path}{name}; {cure}")


def effective_settings(
    config: Config,
    profile: str | None,
    assignments: Sequence[str],
    response_format: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the configuration's settings, overridden by the profile and `--set key=value` pairs.

    `response_format` is that of `--schema`. Raises `SettingsError` for a malformed pair, an unknown
    name, a value out of range, or a second form beside that one.
    """
    settings = Settings()
    if config.profile is not None and profile is None:
        # the settings in the file win over the profile that it names
        settings = apply(settings, profile_values(config.profile))
    settings = apply(settings, config.settings)
    if profile is not None:
        settings = apply(settings, profile_values(profile))
    values: dict[str, Any] = assigned(assignments)
    if response_format is not None:
        if both := sorted(values.keys() & set(FORMS)):
            raise SettingsError(f"--schema and --set {both[0]}: which one is the form?")
        values["response_format"] = response_format
    return apply(settings, values, text=True)


def given_names(
    config: Config,
    profile: str | None,
    assignments: Sequence[str],
    response_format: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return the names of the settings that anybody set: what `effective_settings` overrides."""
    chosen = profile or config.profile
    names = {*config.settings, *(profile_values(chosen) if chosen is not None else ())}
    names |= assigned(assignments).keys()
    if response_format is not None:
        names.add("response_format")
    return tuple(sorted(names))


def assigned(assignments: Sequence[str]) -> dict[str, str]:
    """Return the values of `--set key=value` pairs by name; raises `SettingsError`."""
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write it as key=value")
        values[name.strip()] = value.strip()
    return values


def named_model(name: str | None) -> str | None:
    """Return a model's name as stored in the database: a folder by its full path."""
    if name is not None and name != "demo" and Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    return name
