"""Settings, grouped by meaning; users name them flat (`--set max_tokens=48`).

Later wins: built-in, `mh-batch.toml`, `--profile`, flags and `--set`, the line itself.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .answers.forms import Output
from .did_you_mean import nearest
from .errors import SettingsError
from .foreign.names import ALIASES, FOREIGN
from .setting_values import replaced

LoopDetection = Literal["off", "cheap", "full"]
ReasoningEffort = Literal["low", "medium", "high"]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
# far beyond any use, and small enough for a retry to raise and SQLite to store
MOST = 2**31 - 1
MAX_REPETITION_PENALTY = 10.0
MAX_LINE_MIB = 32
"""The longest line by default."""

MOST_LINE_MIB = 256
"""The highest limit for lines: the model process takes no more for one job."""

MOST_PARALLEL = 64
"""How many conversations may decode together."""

Positive = Annotated[int, Meta(ge=1, le=MOST)]
MOST_BYTES = 2**63 - 1
Bytes = Annotated[int, Meta(ge=0, le=MOST_BYTES)]
TokenId = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$")]
VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
VariableValue = Annotated[str, Meta(max_length=4096)] | int | float | bool | None
Bias = Annotated[float, Meta(ge=-100.0, le=100.0)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
StopTexts = Annotated[tuple[StopText, ...], Meta(max_length=4)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the next token is drawn and where a completion ends, in OpenAI's and mlx-lm's names.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch the filter off.
    `xtc_probability` is how often XTC drops all choices above `xtc_threshold` but the least
    likely of them. `repetition_penalty` 1 is off; it and the other penalties look at the last
    `repetition_window` tokens of prompt and completion. `logit_bias` is added to the logits of
    token ids, written as strings. `max_tokens` counts completion tokens.

    `stop` is one text or up to four: the answer (the final channel, never reasoning, headers or
    tool calls) ends before the first of them. `loop_detection` ends a completion that repeats
    itself: `cheap` finds exact cycles of up to 300 tokens once they are 512 long (384 if of one
    token), `full` near repetition of 1,850 tokens as well; with `off` an answer may repeat itself
    as it likes.
    """

    max_tokens: Positive = 4096
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 1.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=MOST)] = 0
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    xtc_probability: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    xtc_threshold: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.1
    repetition_penalty: Annotated[float, Meta(gt=0.0, le=MAX_REPETITION_PENALTY)] = 1.0
    repetition_window: Positive = 256
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[TokenId, Bias] = {}
    stop: StopText | StopTexts = ()
    loop_detection: LoopDetection = "cheap"

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts, however many there are."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop


class Prompting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shapes the prompt apart from the messages.

    `chat_template_kwargs` are variables of the model's chat template, such as `enable_thinking`.
    """

    reasoning_effort: ReasoningEffort = "medium"
    chat_template_kwargs: dict[VariableName, VariableValue] = {}


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the model may see, and in which chunks it reads a prompt.

    `max_context_tokens` limits prompt plus completion; `None` stands for the model's own limit.
    `history_tokens` limits the turns before the last one in a prompt; `None` stands for what fits
    the context. Beyond a limit the oldest turns are dropped, down to three quarters of it.
    `max_kv_size` is how many positions a layer of full attention keeps: the first `kv_keep` and
    the latest; `None` keeps all. `prefill_step` is the longest chunk of a prompt, in tokens: it
    changes the last bits of the logits, and what prompts can share within a long message.
    """

    max_context_tokens: Positive | None = None
    history_tokens: Positive | None = None
    max_kv_size: Annotated[int, Meta(ge=32, le=MOST)] | None = None
    kv_keep: Annotated[int, Meta(ge=0, le=MOST)] = 4
    prefill_step: Annotated[int, Meta(ge=16, le=65536)] = 512


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often the model is called before a turn is kept as it is.

    `max_attempts` limits the attempts at one answer, `max_steps` the model calls of one turn: a
    tool call, then the answer to its result, which may be another call.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    max_steps: Annotated[int, Meta(ge=1, le=100)] = 8


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a batch takes the values from that nobody set.

    `defaults` `model` lets the model's `generation_config.json` say the `MODEL_DEFAULTS`; with
    `mh-batch` the built-in values hold for every model.
    """

    defaults: Literal["model", "mh-batch"] = "model"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that determines a result; frozen in the database at submit.

    `seed` is what every sample derives from, together with the job's `custom_id`.
    """

    sampling: Sampling = Sampling()
    prompting: Prompting = Prompting()
    context: Context = Context()
    control: Control = Control()
    output: Output = Output()
    origin: Origin = Origin()
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class EngineOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the engine uses the machine: memory in bytes, and the library for matrix products.

    `kv_bytes` bounds the caches of the conversations that decode together; `None` stands for what
    the device recommends, less the weights. One conversation alone is never refused.
    `prefix_cache_bytes` bounds the states of prompt beginnings kept for later prompts; 0 keeps
    none, `None` a 64th of the machine's memory, 256 MiB to 4 GiB. `cache_high_water_bytes` is how
    much freed memory MLX may hold on to from job to job. `wired_limit_bytes` is for
    `mx.set_wired_limit`, on Metal only; `None` never calls it, which is the safe choice: wired
    memory is tied to kernel panics under long load. `preload_blas` is the file of a BLAS that the
    model process calls in place of MLX's own, on Linux; `None` keeps MLX's own. It is the only
    option that may change a result: the last bits of a product, and so a token.
    """

    kv_bytes: Bytes | None = None
    prefix_cache_bytes: Bytes | None = None
    cache_high_water_bytes: Bytes = 1 << 30
    wired_limit_bytes: Bytes | None = None
    preload_blas: Annotated[str, Meta(min_length=1)] | None = None


GROUPS: dict[str, str] = {
    field.name: group.name
    for group in msgspec.structs.fields(Settings)
    if isinstance(group.type, type) and issubclass(group.type, msgspec.Struct)
    for field in msgspec.structs.fields(group.type)
}
"""Which group of `Settings` holds each flat name."""

NAMES = frozenset(GROUPS) | {"seed"}

MODEL_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Settings that a model may come with values for, which hold where nobody set them."""

BATCH_ONLY = frozenset({"defaults"})
"""Settings that a batch has and no line: there the name is a key of the user's own."""

NULLABLE = frozenset(
    name
    for group in msgspec.structs.fields(Settings)
    if group.name in GROUPS.values()
    for name, value in msgspec.structs.asdict(group.default).items()
    if value is None
)
"""Settings for which `None` is a value: no limit."""

FORMS = ("response_format", "structured_outputs")
"""The settings that give a form: two spellings of one thing."""

WORKERS = {"parallel": "`work --parallel`, or `parallel` in mh-batch.toml"}
"""Options of the worker that people look for among the settings, and where they are given."""

PROFILES: dict[str, dict[str, Any]] = {
    "quality": {},
    "steady": {"max_tokens": 1024, "history_tokens": 4096, "max_kv_size": 8192},
}
"""Named sets of values: `quality` keeps the defaults, `steady` is for long conversations."""


def apply(settings: Settings, values: Mapping[str, Any], *, text: bool = False) -> Settings:
    """Return `settings` with `values` (flat names) laid over them.

    `text` says that the values came from a command line, where `48` is a string.
    A form takes the place of the one before, whichever of the `FORMS` gave that.
    Raises `SettingsError` naming the value and the range, or the nearest known name.
    """
    if any(values.get(name) is not None for name in FORMS):
        values = dict.fromkeys(FORMS) | dict(values)
    changed: dict[str, dict[str, Any]] = {}
    seed = settings.seed
    for name, value in values.items():
        if name == "seed":
            seed = value
        elif name in GROUPS:
            changed.setdefault(GROUPS[name], {})[name] = value
        elif name in FOREIGN and FOREIGN[name].refused:
            raise SettingsError(f"{name}: not supported: {FOREIGN[name].use}")
        else:
            raise SettingsError(f"unknown setting {name}; {_cure(name)}")
    built: dict[str, Any] = {}
    for group, fields in changed.items():
        current = getattr(settings, group)
        for name, value in fields.items():
            built[group] = current = replaced(current, name, value, text)
    built["seed"] = replaced(Settings(), "seed", seed, text).seed
    applied = msgspec.structs.replace(settings, **built)
    _check_window(applied.context, values)
    _check_form(applied, values)
    return applied


def _cure(name: str) -> str:
    """Return what to do about a name that is no setting."""
    if name in ALIASES:
        return f"write {ALIASES[name]}"
    if name in WORKERS:
        return f"it is the worker's: {WORKERS[name]}"
    if name in EngineOptions.__struct_fields__:
        return f"it is the worker's: [engine] {name} in mh-batch.toml"
    hint = nearest(name, NAMES)
    return f"did you mean {hint}?" if hint else f"known: {', '.join(sorted(NAMES))}"


def _check_window(context: Context, given: Collection[str]) -> None:
    """Refuse a window that its kept positions would fill.

    The message names the setting that is `given`: the other one may be set elsewhere.
    """
    size, keep = context.max_kv_size, context.kv_keep
    if size is None or keep < size:
        return
    if "kv_keep" in given or "max_kv_size" not in given:
        raise SettingsError(f"kv_keep: must be below max_kv_size ({size}), got {keep}")
    raise SettingsError(f"max_kv_size: must be above kv_keep ({keep}), got {size}")


def _check_form(settings: Settings, given: Collection[str]) -> None:
    """Refuse two forms at once, and `stop` beside a form; the message names what is `given`."""
    if not {"stop", *FORMS}.intersection(given):
        return
    output = settings.output
    if output.form is None or not settings.sampling.stops:
        return
    form = "response_format" if output.structured_outputs is None else "structured_outputs"
    name, other = ("stop", form) if "stop" in given else (form, "stop")
    raise SettingsError(f"{name}: does not go with {other}: an answer ends with its form")


def profile_values(name: str) -> dict[str, Any]:
    """Return the values a profile sets; raises `SettingsError` naming all profiles."""
    if name not in PROFILES:
        raise SettingsError(f"unknown profile {name!r}; must be one of {', '.join(PROFILES)}")
    return PROFILES[name]
