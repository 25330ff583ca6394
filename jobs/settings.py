"""Settings, grouped by meaning; users name them flat (`--set max_tokens=48`).

Later wins: built-in, `mh-batch.toml`, `--profile`, flags and `--set`, the line itself.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .errors import SettingsError
from .near import nearest

ReasoningEffort = Literal["low", "medium", "high"]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
Positive = Annotated[int, Meta(ge=1)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the next token is drawn and where a completion ends, in OpenAI's and mlx-lm's names.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch the filter off.
    `repetition_penalty` 1 is off; it and the other penalties look at the last
    `repetition_window` tokens of prompt and completion. `max_tokens` counts completion tokens.
    """

    max_tokens: Positive = 4096
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 1.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0)] = 0
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=10.0)] = 1.0
    repetition_window: Positive = 256
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0


class Prompting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shapes the prompt apart from the messages."""

    reasoning_effort: ReasoningEffort = "medium"


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the model may see.

    `max_context_tokens` bounds prompt plus completion; `None` takes the model's own limit.
    """

    max_context_tokens: Positive | None = None


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hard the controller tries before a turn is kept as it is."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that shapes a result; frozen in the database at submit.

    `seed` is what every sample derives from, together with the job's `custom_id`.
    """

    sampling: Sampling = Sampling()
    prompting: Prompting = Prompting()
    context: Context = Context()
    control: Control = Control()
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


GROUPS: dict[str, str] = {
    field.name: group.name
    for group in msgspec.structs.fields(Settings)
    if isinstance(group.type, type) and issubclass(group.type, msgspec.Struct)
    for field in msgspec.structs.fields(group.type)
}
"""Which group of `Settings` holds each flat name."""

NAMES = frozenset(GROUPS) | {"seed"}

PROFILES: dict[str, dict[str, Any]] = {
    "quality": {},
    "steady": {"max_tokens": 1024},
}
"""Named sets of values: `quality` is the built-in ones, `steady` suits long nights."""


def apply(settings: Settings, values: Mapping[str, Any], *, text: bool = False) -> Settings:
    """Return `settings` with `values` (flat names) laid over them.

    `text` says that the values came from a command line, where `48` is a string.
    Raises `SettingsError` naming the value and the range, or the nearest known name.
    """
    changed: dict[str, dict[str, Any]] = {}
    seed = settings.seed
    for name, value in values.items():
        if name == "seed":
            seed = value
        elif name in GROUPS:
            changed.setdefault(GROUPS[name], {})[name] = value
        else:
            hint = nearest(name, NAMES)
            cure = f"did you mean {hint}?" if hint else f"known: {', '.join(sorted(NAMES))}"
            raise SettingsError(f"unknown setting {name}; {cure}")
    built: dict[str, Any] = {}
    for group, fields in changed.items():
        current = getattr(settings, group)
        for name, value in fields.items():
            built[group] = current = _replace(current, name, value, text)
    built["seed"] = _replace(Settings(), "seed", seed, text).seed
    return msgspec.structs.replace(settings, **built)


def _replace(struct: Any, name: str, value: Any, text: bool) -> Any:
    """Return `struct` with one field changed, checked against the field's type and range."""
    if text and value in ("none", "null"):
        value = None
    try:
        checked = msgspec.convert({name: value}, type(struct), strict=not text)
    except msgspec.ValidationError as error:
        reason = str(error).removesuffix(f" - at `$.{name}`")
        raise SettingsError(f"{name}: {reason}, got {value!r}") from None
    return msgspec.structs.replace(struct, **{name: getattr(checked, name)})


def profile_values(name: str) -> dict[str, Any]:
    """Return the values a profile sets; raises `SettingsError` naming the profiles there are."""
    if name not in PROFILES:
        raise SettingsError(f"unknown profile {name!r}; there are: {', '.join(PROFILES)}")
    return PROFILES[name]
