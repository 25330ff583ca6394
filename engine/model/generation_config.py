"""What a model's `generation_config.json` says about sampling."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import MODEL_DEFAULTS, Settings, apply

FILE = "generation_config.json"


class SamplingDefaults(NamedTuple):
    """Values for settings that nobody set, and for each that cannot be used why."""

    values: dict[str, int | float]
    not_used: tuple[str, ...]


def sampling_defaults(folder: Path) -> SamplingDefaults:
    """Return the sampling defaults in a model's folder; none where there is no file.

    `do_sample` `false` is temperature 0, whatever the file says beside it. A file that cannot be
    read is one without values.
    """
    try:
        content = json.loads((folder / FILE).read_text("utf-8"))
    except FileNotFoundError:
        return SamplingDefaults({}, ())
    except (OSError, ValueError, RecursionError):
        return SamplingDefaults({}, (f"{FILE} cannot be read",))
    if not isinstance(content, dict):
        return SamplingDefaults({}, (f"{FILE} is no JSON object",))
    return _checked(_named(content))


def _named(content: dict[str, Any]) -> dict[str, Any]:
    """Return the values by the names of our settings."""
    found = {name: content[name] for name in MODEL_DEFAULTS if content.get(name) is not None}
    if content.get("do_sample") is False:
        # transformers then takes the likeliest token, and ignores what it says of sampling
        kept = {name: found[name] for name in ("repetition_penalty",) if name in found}
        return {"temperature": 0.0, **kept}
    if found.get("top_k") == -1:
        found["top_k"] = 0  # vLLM's word for off
    return found


def _checked(found: dict[str, Any]) -> SamplingDefaults:
    values: dict[str, int | float] = {}
    not_used = []
    for name, value in found.items():
        try:
            sampling = apply(Settings(), {name: value}).sampling
        except SettingsError as error:
            not_used.append(str(error))
        else:
            values[name] = getattr(sampling, name)
    return SamplingDefaults(values, tuple(not_used))
