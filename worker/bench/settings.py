"""Where the settings a scenario is about are put into requests, if this version has them.

A scenario names settings as users do. One that `jobs.settings` does not know, or that no request
carries to the engine, makes the scenario's figure `n/a`: a figure measured without the very thing
it is about would be a wrong one.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import GROUPS, NAMES, Settings, apply

SEED = 20250101

UNWATCHED: Mapping[str, Any] = {"loop_detection": "off"}
"""Keeps a detector from ending text that is long on purpose, where the figure is not about it."""


class Unavailable(Exception):
    """This version of the program lacks what a figure is about."""


def carried(request_type: type[msgspec.Struct] = GenerationRequest) -> frozenset[str]:
    """Return the flat names that reach the engine: their group or they themselves are a field.

    (What belongs to `prompting` is in the request's prompt.)
    """
    fields = {field.name for field in msgspec.structs.fields(request_type)} | {"prompting"}
    return frozenset(name for name, group in GROUPS.items() if {name, group} & fields)


def require(*names: str) -> None:
    """Raise `Unavailable` for the first name that is no setting or that no request carries."""
    reachable = carried()
    for name in sorted(names):
        if name not in NAMES:
            raise Unavailable(f"no such setting {name}")
        if name not in reachable:
            raise Unavailable(f"no request carries the setting {name}")


def make_request(
    prompt: Prompt, values: Mapping[str, Any], *, wished: Mapping[str, Any] | None = None
) -> GenerationRequest:
    """Return a request with `values` (flat names) over the built-in settings.

    `wished` are values that only keep something else out of the figure: those that this version
    does not have are left out. Raises `Unavailable` if one of `values` is not there.
    """
    require(*values)
    kept = {name: value for name, value in (wished or {}).items() if name in carried()}
    settings = apply(Settings(), {**kept, **values})
    prompt = msgspec.structs.replace(prompt, prompting=settings.prompting)
    return GenerationRequest(prompt=prompt, seed=SEED, **fill(GenerationRequest, settings))


def fill(request_type: type[msgspec.Struct], settings: Settings) -> dict[str, Any]:
    """Return what `settings` has for the fields of a request: whole groups, and single values."""
    groups = set(GROUPS.values())
    filled: dict[str, Any] = {}
    for field in msgspec.structs.fields(request_type):
        if field.name in groups:
            filled[field.name] = getattr(settings, field.name)
        elif field.name in GROUPS:
            filled[field.name] = getattr(getattr(settings, GROUPS[field.name]), field.name)
    return filled
