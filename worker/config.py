"""`mh-batch.toml` in the current folder: defaults that flags and lines override."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mh_batch.jobs.errors import InputError, SettingsError
from mh_batch.jobs.settings import EngineOptions, Settings, apply, profile_values

from .artifacts import Keep

CONFIG_NAME = "mh-batch.toml"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content; `None` means that the file does not say.

    `settings` are for what is submitted, `engine` and the rest are for the worker.
    """

    model: str | None = None
    profile: str | None = None
    settings: dict[str, Any] = {}
    engine: EngineOptions = EngineOptions()
    recycle_bytes: Annotated[int, Meta(ge=1)] | None = None
    artifacts: Keep = "all"


def read_config(folder: Path) -> Config:
    """Read the configuration in `folder`; the defaults where there is none.

    Raises `InputError` naming the key that is wrong.
    """
    path = folder / CONFIG_NAME
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
        apply(Settings(), config.settings)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise InputError(f"{CONFIG_NAME}: {error.strerror}") from None
    except (msgspec.DecodeError, SettingsError, UnicodeDecodeError) as error:
        raise InputError(f"{CONFIG_NAME}: {error}") from None
    return config


def effective_settings(config: Config, profile: str | None, assignments: Sequence[str]) -> Settings:
    """Lay profile and `--set key=value` pairs over the configuration's values.

    Raises `SettingsError` for a pair that is none, an unknown name or a value out of range.
    """
    settings = Settings()
    if config.profile is not None and profile is None:
        # named in the file itself: what the file says explicitly wins over it
        settings = apply(settings, profile_values(config.profile))
    settings = apply(settings, config.settings)
    if profile is not None:
        settings = apply(settings, profile_values(profile))
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write it as key=value")
        values[name.strip()] = value.strip()
    return apply(settings, values, text=True)


def named_model(name: str | None) -> str | None:
    """Return a model's name as the database keeps it: a folder by its full path."""
    if name is not None and name != "demo" and Path(name).expanduser().is_dir():
        return str(Path(name).expanduser().resolve())
    return name
