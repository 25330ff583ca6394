"""Where the settings that a scenario is about become a request; it names them as users do."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import EngineOptions, Settings, apply

SEED = 20250101

UNWATCHED: Mapping[str, Any] = {"loop_detection": "off"}
"""Keeps a detector from ending text that is long on purpose, where the figure is not about it."""


REUSE = EngineOptions(prefix_cache_bytes=1 << 30)
"""Keeps the beginnings of prompts, and whole ones that come again, whatever the machine has."""

NO_REUSE = EngineOptions(prefix_cache_bytes=0)


def make_request(prompt: Prompt, values: Mapping[str, Any]) -> GenerationRequest:
    """Return a request with `values` (flat names) over the built-in settings.

    Raises `SettingsError` for a name or a value that there is not.
    """
    settings = apply(Settings(), values)
    prompt = msgspec.structs.replace(prompt, prompting=settings.prompting)
    return GenerationRequest(prompt, settings.sampling, settings.context, SEED)
