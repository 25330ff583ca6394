"""The protocol between the worker and the model process: length-prefixed msgpack frames.

A request has an id and is answered by exactly one frame with that id. Several requests may be open
at once; they are answered in any order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mh_batch.jobs.errors import EnvironmentFault, Stage
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.jobs.settings import EngineOptions

PROTOCOL = 11
HEADER_BYTES = 4
MAX_FRAME_BYTES = 512 * 1024 * 1024

Id = Annotated[int, Meta(ge=0)]
Phase = Literal["load", "template", "render", "prefill", "decode"]
"""What the model process does while an answer is due; parsing counts as `decode`.

`template` is the part of a load in which the model's chat template is tried.
"""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first frame of the child: its protocol and program version."""

    protocol: int
    version: str
    pid: int


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load this model and drop any other; answered by `Loaded` or `Failed`.

    If more than one slot is wanted (`parallel`), the answer says in how many the model can run.
    """

    id: Id
    model: str
    options: EngineOptions
    parallel: int = 1


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is in memory."""

    id: Id
    info: ModelInfo


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """A hint, never answered: this request comes next, render its prompt ahead."""

    request: GenerationRequest


class JobDone(msgspec.Struct, frozen=True, tag=True):
    """A job is over, never answered: give memory back if too much is held."""


class GenerateFrame(msgspec.Struct, frozen=True, tag="Generate"):
    """Run one attempt; answered by `Generated` or `Failed`.

    Several with the same `request.parallel` above 1 run together. One with another number, like a
    `Load`, waits until they are answered.
    """

    id: Id
    request: GenerationRequest


class Progress(msgspec.Struct, frozen=True, tag=True):
    """A sign of life, a few times a second: the phase and the completion tokens so far.

    A request that waits for a slot is in the phase `render`.
    """

    id: Id
    tokens: int
    phase: Phase = "decode"


class Generated(msgspec.Struct, frozen=True, tag=True):
    """The attempt is over, with or without a `Cancel`."""

    id: Id
    generation: Generation


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Render this for a model without loading its weights; answered by `Measured` or `Failed`."""

    id: Id
    model: str
    request: GenerationRequest


class Measured(msgspec.Struct, frozen=True, tag=True):
    """How long the prompt is, how long its answer may get, and how many turns do not fit."""

    id: Id
    prompt_tokens: int
    max_tokens: int
    dropped_turns: int


class Selftest(msgspec.Struct, frozen=True, tag=True):
    """Check `parallel` slots on the loaded model; answered by `Selftested` or `Failed`.

    `thorough` adds what takes long: the longest prompts, and speeds.
    """

    id: Id
    parallel: int
    thorough: bool


class Selftested(msgspec.Struct, frozen=True, tag=True):
    """What a self-test found, the memory in bytes by number of slots, and what was checked."""

    id: Id
    verdict: SelftestVerdict
    memory: dict[int, int] = {}
    checked: tuple[str, ...] = ()


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """End that attempt within a token; it is still answered by exactly one `Generated`."""

    id: Id


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request failed: `kind` is the name of an error class, `message` is its text.

    `stage` says where an `InternalError` happened; `None` for every other kind.
    """

    id: Id
    kind: str
    message: str
    stage: Stage | None = None


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """End after the running request; where several run together, after the running step."""


ToChild = Load | Prepare | GenerateFrame | Measure | Selftest | JobDone | Cancel | Shutdown
ToParent = Hello | Loaded | Progress | Generated | Measured | Selftested | Failed

_encoder = msgspec.msgpack.Encoder()
_to_child = msgspec.msgpack.Decoder(ToChild)
_to_parent = msgspec.msgpack.Decoder(ToParent)


class _Head(msgspec.Struct):
    """What every request has, for a frame whose other fields cannot be decoded."""

    type: str
    id: int


_head = msgspec.msgpack.Decoder(_Head)


class BadFrame(EnvironmentFault):
    """The pipe carried something that is not a frame."""


def encode(frame: ToChild | ToParent) -> bytes:
    """Return a frame with its length prefix; raises `BadFrame` if it is too long."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise BadFrame(f"a {type(frame).__name__} of {len(body)} bytes is too long to send")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_length(header: bytes) -> int:
    """Return how many bytes follow; raises `BadFrame` for an impossible length."""
    length = int.from_bytes(header, "big")
    if not 0 < length <= MAX_FRAME_BYTES:
        raise BadFrame(f"invalid frame: a length of {length} bytes")
    return length


def decode_to_child(body: bytes) -> ToChild:
    """Decode a frame for the child; raises `BadFrame`."""
    with _bad_frames():
        frame: ToChild = _to_child.decode(body)
        return frame


def decode_to_parent(body: bytes) -> ToParent:
    """Decode a frame for the worker; raises `BadFrame`."""
    with _bad_frames():
        frame: ToParent = _to_parent.decode(body)
        return frame


def request_id(body: bytes) -> int | None:
    """Return the id of a request that `decode_to_child` refused; `None` if it has none.

    A frame with an id was sent whole, so its job can be failed with the reason.
    """
    try:
        return _head.decode(body).id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


@contextmanager
def _bad_frames() -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(f"invalid frame: {error}") from None
