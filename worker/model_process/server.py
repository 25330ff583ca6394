"""The process that holds the model: one thread owns MLX, one reads the pipe.

Started by `ModelClient`, never by hand. Its frames go through what were standard input and
output at the start; libraries that print reach the worker's log instead.
"""

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mh_batch.jobs.errors import EnvironmentFault, InternalError, JobError, Stage, describe_error
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.settings import EngineOptions

from .hints import Hints
from .metal import is_command_buffer_fault
from .protocol import (
    HEADER_BYTES,
    PROTOCOL,
    BadFrame,
    Cancel,
    Failed,
    Generate,
    Generated,
    Hello,
    Load,
    Loaded,
    Measure,
    Measured,
    Phase,
    Prepare,
    Progress,
    Settle,
    Shutdown,
    ToParent,
    body_length,
    decode_to_child,
    encode,
    request_id,
)

if TYPE_CHECKING:
    from mh_batch.engine.generate import Generator
    from mh_batch.engine.measure import PromptMeasurer

PROGRESS_SECONDS = 0.3


class Unreadable(msgspec.Struct, frozen=True):
    """A request that could be written and not be read: `reason` says what is wrong with it."""

    id: int
    reason: str


Request = Load | Generate | Measure | Settle | Shutdown | Unreadable


class Inbox:
    """Frames from the worker, read on a thread of their own so that a cancel gets through.

    When the pipe closes the worker is gone, and so is any use for this process: it exits at
    once, also in the middle of a generation.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.hints = Hints()
        self._cancelled: set[int] = set()

    def start(self) -> None:
        """Begin to read."""
        self.hints.start()
        threading.Thread(target=self._read, name="frames", daemon=True).start()

    def get(self) -> Request:
        """Wait for the next request."""
        return self._requests.get()

    def is_cancelled(self, request_id: int) -> bool:
        """Whether the worker has asked to end this request."""
        return request_id in self._cancelled

    def read_all(self) -> None:
        """Take the frames as they come, until the pipe closes; raises `BadFrame`."""
        while header := self._stream.read(HEADER_BYTES):
            self._take(self._stream.read(body_length(header)))

    def _read(self) -> None:
        code = 1
        try:
            self.read_all()
            code = 0
        except BadFrame as error:
            print(f"mh-batch model process: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def _take(self, body: bytes) -> None:
        """Sort one frame; raises `BadFrame` for one that cannot be answered as a request."""
        try:
            frame = decode_to_child(body)
        except BadFrame as error:
            unreadable = request_id(body)
            if unreadable is None:
                raise
            self._requests.put(Unreadable(unreadable, str(error)))
            return
        if isinstance(frame, Cancel):
            self._cancelled.add(frame.id)
        elif isinstance(frame, Prepare):
            self.hints.put(frame.request)
        else:
            self._requests.put(frame)


class Heartbeat:
    """The signs of life of one attempt: whenever its phase changes, and a few times a second.

    They come from the thread that owns MLX: one of another thread would prove nothing.
    """

    def __init__(self, request_id: int, send: Callable[[ToParent], None]) -> None:
        self._id = request_id
        self._send = send
        self._phase: Phase = "render"
        self._tokens = 0
        self._last = time.monotonic()

    @property
    def stage(self) -> Stage:
        """The stage of the job that the attempt is at."""
        return "render" if self._phase == "render" else "generate"

    def portion(self) -> None:
        """Take that the next portion of the prompt, or the next token, is about to be read."""
        self._beat("decode" if self._tokens else "prefill")

    def token(self, count: int) -> None:
        """Take that there are `count` tokens."""
        self._tokens = count
        self._beat("decode")

    def _beat(self, phase: Phase) -> None:
        now = time.monotonic()
        if phase != self._phase or now - self._last >= PROGRESS_SECONDS:
            self._phase, self._last = phase, now
            self._send(Progress(self._id, self._tokens, phase))


class ModelServer:
    """Answers requests one after the other, on the thread that owns MLX."""

    def __init__(self, inbox: Inbox, write: Callable[[bytes], None]) -> None:
        """Take where requests come from, and what writes an encoded frame."""
        self._inbox = inbox
        self._write = write
        self._generator: Generator | None = None
        self._pulse: Heartbeat | None = None
        self._rulers: dict[str, PromptMeasurer] = {}

    def run(self) -> None:
        """Serve until asked to shut down."""
        while not isinstance(frame := self._inbox.get(), Shutdown):
            if isinstance(frame, Settle):
                if self._generator is not None:
                    self._generator.between_jobs()
                continue
            self._write(self._reply(frame))

    def _reply(self, frame: Load | Generate | Measure | Unreadable) -> bytes:
        """Return the encoded answer to a request, which is `Failed` if it cannot be done."""
        try:
            return encode(self._answer(frame))
        except BadFrame as error:
            # an answer too long to send is that job's trouble: the next one may be short
            kind = JobError if isinstance(frame, Generate) else EnvironmentFault
            return encode(Failed(frame.id, kind.__name__, str(error)))
        except (JobError, EnvironmentFault) as error:
            return encode(Failed(frame.id, type(error).__name__, str(error)))
        except BrokenPipeError:
            raise
        except Exception as error:
            # a model that does not load is no job's, and neither is a GPU that gave up (as a rule
            # that aborts the process): it ends, and the worker sees why
            if isinstance(frame, Load) or is_command_buffer_fault(str(error)):
                raise
            traceback.print_exc()
            return encode(
                Failed(frame.id, InternalError.__name__, describe_error(error), self._stage(frame))
            )

    def _stage(self, frame: Generate | Measure | Unreadable) -> Stage:
        """Return at which stage a request was when it failed."""
        if isinstance(frame, Generate) and self._pulse is not None:
            return self._pulse.stage
        return "render"

    def _answer(self, frame: Load | Generate | Measure | Unreadable) -> ToParent:
        match frame:
            case Unreadable(request_id, reason):
                return Failed(request_id, InternalError.__name__, reason, "encode")
            case Load(request_id, model, options):
                return self._load(request_id, model, options)
            case Generate(request_id, request):
                return Generated(request_id, self._generate(request_id, request))
            case Measure(request_id, model, request):
                return self._measure(request_id, model, request)

    def _load(self, request_id: int, model: str, options: EngineOptions) -> Loaded:
        from mh_batch.engine.generate import Generator
        from mh_batch.engine.model.blas import require_blas
        from mh_batch.engine.model.load import load

        require_blas(options.preload_blas)
        # the old weights go before the new ones come: both may not fit together
        self._inbox.hints.prepare_with(None)
        self._generator = None
        loaded = load(model, partial(self._tell, request_id))
        self._generator = Generator(loaded, options)
        self._inbox.hints.prepare_with(self._generator.prepare)
        return Loaded(request_id, loaded.info)

    def _measure(self, request_id: int, model: str, request: GenerationRequest) -> Measured:
        from mh_batch.engine.measure import PromptMeasurer

        tell = partial(self._tell, request_id)
        if model not in self._rulers:
            self._rulers[model] = PromptMeasurer(model, tell)
        tell("render")
        fitted = self._rulers[model].fit(request)
        return Measured(request_id, len(fitted.tokens), fitted.max_tokens, fitted.dropped_turns)

    def _tell(self, request_id: int, phase: Phase) -> None:
        """Say what this is at now: how long it may be silent depends on that."""
        self._write(encode(Progress(request_id, 0, phase)))

    def _generate(self, request_id: int, request: GenerationRequest) -> Generation:
        if self._generator is None:
            raise EnvironmentFault("a generation was asked for before a model was loaded")
        self._pulse = pulse = Heartbeat(request_id, lambda frame: self._write(encode(frame)))
        self._inbox.hints.wait_for(request)

        def cancelled() -> bool:
            pulse.portion()
            return self._inbox.is_cancelled(request_id)

        return self._generator.generate(request, cancelled, pulse.token)


def main() -> None:
    """Take over the pipes, say hello, serve."""
    # only the worker decides what Ctrl-C means, also if somebody starts this outside its session
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe_in = os.fdopen(os.dup(0), "rb")
    pipe_out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def write(frame: bytes) -> None:
        pipe_out.write(frame)
        pipe_out.flush()

    inbox = Inbox(pipe_in)
    write(encode(Hello(PROTOCOL, version("mh-batch"), os.getpid())))
    inbox.start()
    try:
        ModelServer(inbox, write).run()
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
