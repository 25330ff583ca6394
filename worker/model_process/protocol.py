"""The protocol between the worker and the model process: msgpack frames with a length in front.

A request carries an id and is answered by exactly one frame with that id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mh_batch.jobs.errors import EnvironmentFault, Stage
from mh_batch.jobs.generation import Generation, GenerationRequest, ModelInfo
from mh_batch.jobs.settings import EngineOptions

PROTOCOL = 8
HEADER_BYTES = 4
MAX_FRAME_BYTES = 512 * 1024 * 1024

Id = Annotated[int, Meta(ge=0)]
Phase = Literal["load", "template", "render", "prefill", "decode"]
"""What the model process is at while an answer is due; a parse counts as the end of the decode.

`template` is a part of a load: the model's chat template is tried.
"""


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first frame of the child: which protocol and program it speaks for."""

    protocol: int
    version: str
    pid: int


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load this model in place of any other; answered by `Loaded` or `Failed`."""

    id: Id
    model: str
    options: EngineOptions


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is in memory."""

    id: Id
    info: ModelInfo


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """A hint, never answered: this comes next, render it while the model works."""

    request: GenerationRequest


class Settle(msgspec.Struct, frozen=True, tag=True):
    """A job is over, never answered: give memory back if too much of it is held."""


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Run one attempt; answered by `Generated` or `Failed`."""

    id: Id
    request: GenerationRequest


class Progress(msgspec.Struct, frozen=True, tag=True):
    """A sign of life, a few times a second: where the attempt is, completion tokens so far."""

    id: Id
    tokens: int
    phase: Phase = "decode"


class Generated(msgspec.Struct, frozen=True, tag=True):
    """The attempt is over, by itself or by a `Cancel`."""

    id: Id
    generation: Generation


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Render this for a model whose weights need not be loaded.

    Answered by `Measured` or `Failed`.
    """

    id: Id
    model: str
    request: GenerationRequest


class Measured(msgspec.Struct, frozen=True, tag=True):
    """How long the prompt is, how long its answer may get, and how many turns it goes without."""

    id: Id
    prompt_tokens: int
    max_tokens: int
    dropped_turns: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """End that attempt within a token; its answer is the one `Generated`, whoever wins."""

    id: Id


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request cannot be done. `kind` is the name of an error class, `message` for people.

    `stage` says where an `InternalError` happened, `None` for every other kind.
    """

    id: Id
    kind: str
    message: str
    stage: Stage | None = None


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """End when what is running is over."""


ToChild = Load | Prepare | Generate | Measure | Settle | Cancel | Shutdown
ToParent = Hello | Loaded | Progress | Generated | Measured | Failed

_encoder = msgspec.msgpack.Encoder()
_to_child = msgspec.msgpack.Decoder(ToChild)
_to_parent = msgspec.msgpack.Decoder(ToParent)


class _Head(msgspec.Struct):
    """What can be told of a frame of a known kind whose other fields are not as they should be."""

    type: str
    id: int


_head = msgspec.msgpack.Decoder(_Head)


class BadFrame(EnvironmentFault):
    """The pipe carried something that is no frame."""


def encode(frame: ToChild | ToParent) -> bytes:
    """Return a frame with its length in front; raises `BadFrame` if it is too long."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise BadFrame(f"a {type(frame).__name__} of {len(body)} bytes is too long to send")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_length(header: bytes) -> int:
    """Return how many bytes follow; raises `BadFrame` for a length that cannot be right."""
    length = int.from_bytes(header, "big")
    if not 0 < length <= MAX_FRAME_BYTES:
        raise BadFrame(f"the pipe carries no frame: a length of {length} bytes")
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
    """Return the id of a request that `decode_to_child` refused; `None` if there is none to see.

    A frame that has one was written whole: what is wrong with it is the matter of its job.
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
        raise BadFrame(f"the pipe carries no frame: {error}") from None
