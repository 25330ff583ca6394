"""What goes to the engine for one attempt, and what comes back."""

import sys
from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from .answers.forms import AUTO, Form, ToolChoice, json_of
from .conversation import Message, Tool
from .settings import Context, Prompting, Sampling


class StopReason(StrEnum):
    """What ended the stream of tokens.

    `stop_sequence` is one of the texts of `Sampling.stop`. `constraint_failed` says that the form
    of the answer could not be kept to any longer, which is no fault of the model.
    """

    STOP_TOKEN = "stop_token"
    STOP_SEQUENCE = "stop_sequence"
    LOOP_DETECTED = "loop_detected"
    MAX_TOKENS = "max_tokens"
    CANCELLED = "cancelled"
    CONSTRAINT_FAILED = "constraint_failed"


class FinishReason(StrEnum):
    """Why the completion ended, in OpenAI's words; `cancelled` is ours."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


class Prompt(msgspec.Struct, frozen=True):
    """Everything a prompt is rendered from; the same prompt renders to the same token ids.

    `date` is the conversation date (ISO, the batch's), so a night that passes midnight stays
    reproducible. `guidance` is a transient remark to the model for this attempt only; `None`
    for none. `form` is what the answer must look like, `None` for free text; `tool_choice` says
    whether it may or must be a call.
    """

    messages: tuple[Message, ...]
    date: str
    tools: tuple[Tool, ...] = ()
    prompting: Prompting = Prompting()
    guidance: str | None = None
    form: Form | None = None
    tool_choice: ToolChoice = AUTO


class Continuation(msgspec.Struct, frozen=True):
    """An answer that was cut: all its `tokens` so far, and how many more it may have."""

    tokens: tuple[int, ...]
    max_tokens: int


class GenerationRequest(msgspec.Struct, frozen=True):
    """One attempt for the engine: prompt, sampling, limits and the seed that fixes it.

    `forced_final` are the tokens of an earlier attempt that never ended its analysis: the answer
    begins with that analysis and an opened final channel; empty for an answer from scratch.
    `continues` is what an earlier attempt was cut at, `None` for another answer: prompt, sampling
    and seed are then those of that attempt, so that its prompt is fitted to the context as it was.
    `render` asks for the prompt itself beside the answer, in `Generation.rendered`.
    `parallel` is in how many slots the attempt decodes: results are the same for the same number.
    """

    prompt: Prompt
    sampling: Sampling
    context: Context
    seed: Annotated[int, Meta(ge=0)]
    forced_final: tuple[int, ...] = ()
    continues: Continuation | None = None
    render: bool = False
    parallel: Annotated[int, Meta(ge=1)] = 1


class Channel(msgspec.Struct, frozen=True):
    """One message of a completion.

    `channel` is `analysis`, `commentary`, `final` or whatever the model wrote. `recipient` is
    `functions.NAME` of a tool call, else `None`; `content_type` such as `json`, else `None`.
    """

    channel: str
    text: str
    recipient: str | None = None
    content_type: str | None = None


class ParserTier(StrEnum):
    """Which parser could read the tokens, strictest first; stored as `rung`."""

    STRICT = "strict"
    LENIENT = "lenient"
    TOLERANT = "tolerant"
    RAW = "raw"


class Parse(msgspec.Struct, frozen=True):
    """How a completion reads: the channels in order, and whether it is well formed.

    `problems` are short codes, empty if and only if `well_formed`.
    """

    parser_version: int
    tier: ParserTier = msgspec.field(name="rung")
    well_formed: bool
    problems: tuple[str, ...]
    channels: tuple[Channel, ...]

    def text(self, channel: str) -> str | None:
        """Return the texts of `channel` joined by a blank line, or `None` if it has none."""
        texts = [c.text for c in self.channels if c.channel == channel and c.recipient is None]
        return "\n\n".join(texts) if texts else None

    def parsed(self, form: Form | None) -> str | None:
        """Return the JSON of an answer in this `form`; `None` if it is no JSON or not well formed.

        `None` stands for free text.
        """
        return json_of(self.text("final"), form) if self.well_formed else None

    @property
    def calls(self) -> tuple[Channel, ...]:
        """The tool calls, in order."""
        return tuple(c for c in self.channels if c.recipient is not None)


def finish_reason(stop_reason: StopReason, parse: Parse) -> FinishReason:
    """Return why the completion ended, in OpenAI's words."""
    match stop_reason:
        # a loop was cut off as well: nobody is to take it for an answer that came to its end
        case StopReason.MAX_TOKENS | StopReason.LOOP_DETECTED | StopReason.CONSTRAINT_FAILED:
            return FinishReason.LENGTH
        case StopReason.CANCELLED:
            return FinishReason.CANCELLED
        case StopReason.STOP_SEQUENCE:
            return FinishReason.STOP
        case StopReason.STOP_TOKEN:
            called = parse.well_formed and parse.calls
            return FinishReason.TOOL_CALLS if called else FinishReason.STOP


class Timings(msgspec.Struct, frozen=True):
    """Where the time and the memory of one attempt went; seconds, bytes and tokens.

    `queue_seconds` is the wait outside the model's own work. Of `prompt_tokens`, `reused_tokens`
    came from an earlier prompt and `prefill_tokens` were computed. `kv_len` is how many positions
    the fullest cache held at the end, `max_kv_size` the window over full attention, both read from
    the caches.
    `None` means that it does not apply (no window, no decode step).

    `parallel` is the number of slots, `rows` how many of them were busy on average while this
    attempt decoded. `stall_seconds` of `decode_seconds` went to the prompts of others.
    `machine_seconds` is what the decode took of the machine: the time of each step divided by the
    number of busy slots. So tokens by the sum of it are the machine's speed.
    """

    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float = 0.0
    render_seconds: float = 0.0
    prefill_seconds: float = 0.0
    first_token_seconds: float = 0.0
    decode_seconds: float = 0.0
    parse_seconds: float = 0.0
    reused_tokens: int = 0
    prefill_tokens: int = 0
    prefill_tokens_per_second: float | None = None
    tokens_per_second: float | None = None
    kv_len: int = 0
    max_kv_size: int | None = None
    kv_layout: str = ""
    repetition_window: int | None = None
    loop_detection_mode: str = "off"
    active_memory_bytes: int = 0
    peak_memory_bytes: int = 0
    cache_memory_bytes: int = 0
    process_memory_bytes: int = 0
    parallel: int = 1
    rows: float = 1.0
    stall_seconds: float = 0.0
    machine_seconds: float = 0.0


def decoded_tokens(completion_tokens: int) -> int:
    """Return how many tokens of an attempt were decoded: the first one belongs to the prefill."""
    return max(completion_tokens - 1, 0)


def decode_speed(decoded: int, seconds: float) -> float | None:
    """Return decoded tokens a second; `None` if no time was taken."""
    return decoded / seconds if seconds else None


class RenderedPrompt(msgspec.Struct, frozen=True):
    """A prompt as the model saw it: its token ids, and the text they decode to."""

    tokens: tuple[int, ...]
    text: str


class Generation(msgspec.Struct, frozen=True):
    """What one attempt produced.

    `tokens` are the completion's ids, the stop token included where there was one; `raw` is
    their text with control tokens spelled out; both also hold a stop sequence that ended the
    stream, which `parse` does not. `prompt_sha256` is over the prompt's ids as uint32
    little-endian. `max_tokens` is what the attempt really had: less than was asked for where the
    context was the limit. `dropped_turns` is how many of the oldest turns the prompt went without,
    so that it fits the context. `room` is how many tokens the context holds behind the prompt and
    `max_tokens`; `None` if nothing limits it.

    `response_prefill` is the beginning of the answer that was part of the prompt, for a forced
    final or a continuation: the prompt's last tokens (counted and hashed with it) and the first
    that `parse` reads; the column is `attempts.opening`.
    `rendered` is the prompt itself where the request asked for it (`render`), else `None`; the
    store does not keep it.
    """

    tokens: tuple[int, ...]
    raw: str
    finish_reason: FinishReason
    stop_reason: StopReason
    parse: Parse
    prompt_tokens: int
    prompt_sha256: str
    timings: Timings
    max_tokens: int | None = None
    dropped_turns: int = 0
    response_prefill: tuple[int, ...] = ()
    room: int | None = None
    rendered: RenderedPrompt | None = None


class SlotLimit(msgspec.Struct, frozen=True):
    """In how many slots a model can decode, and why not in more; `None` for any number.

    `unless_tested` says that it may decode in more where a self-test passes with that number.
    """

    most: int | None = None
    reason: str | None = None
    unless_tested: bool = False


class ModelInfo(msgspec.Struct, frozen=True):
    """A loaded model: the name it was asked for by, what it is, and how much it can see.

    `fingerprint` is a hash over the configuration and the weight files. `context_tokens` is
    `None` if the model's configuration does not say. `slots` is only found out where more than one
    is asked for. `hardware` names all of the hardware that results depend on; `device` is short.
    `defaults` are the settings that the model's `generation_config.json` gives to whoever sets
    none, `not_used` says which of its values cannot be, and why.
    """

    name: str
    fingerprint: str
    architecture: str
    adapter: str
    device: str
    context_tokens: int | None
    versions: dict[str, str]
    slots: SlotLimit = SlotLimit()
    hardware: str = ""
    defaults: dict[str, int | float] = {}
    not_used: tuple[str, ...] = ()


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Return token ids as uint32, little-endian: as they are stored and hashed."""
    packed = array("I", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_tokens(packed: bytes) -> tuple[int, ...]:
    """Return the token ids that `pack_tokens` packed."""
    tokens = array("I")
    tokens.frombytes(packed)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tuple(tokens)
