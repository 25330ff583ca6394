"""The process that holds the model: one thread owns MLX, another reads the pipe.

Started by `start_model`, never by hand. Its frames use what were standard input and output at the
start; libraries that print write to the worker's log instead.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from mh_batch.jobs.errors import EnvironmentFault, InternalError, JobError, Stage, describe_error
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.settings import EngineOptions

from .inbox import Inbox, Request, Unreadable
from .metal import is_command_buffer_fault
from .protocol import (
    PROTOCOL,
    BadFrame,
    Failed,
    Generated,
    GenerateFrame,
    Hello,
    JobDone,
    Load,
    Loaded,
    Measure,
    Measured,
    Phase,
    Progress,
    Shutdown,
    ToParent,
    encode,
)

if TYPE_CHECKING:
    from mh_batch.engine.generate import Generator
    from mh_batch.engine.measure import PromptMeasurer

PROGRESS_SECONDS = 0.3


class Heartbeat:
    """Sends `Progress` for one attempt: at each change of phase, and a few times a second.

    It is called on the thread that owns MLX: a sign of life from another thread proves nothing.
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

    def chunk(self) -> None:
        """Report that the next chunk of the prompt, or the next token, is about to be read."""
        self._beat("decode" if self._tokens else "prefill")

    def token(self, count: int) -> None:
        """Report that there are `count` tokens."""
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
        """`write` sends an encoded frame."""
        self._inbox = inbox
        self._write = write
        self._generator: Generator | None = None
        self._heartbeat: Heartbeat | None = None
        self._measurers: dict[str, PromptMeasurer] = {}

    def run(self) -> None:
        """Serve until asked to shut down."""
        while not isinstance(frame := self._inbox.get(), Shutdown):
            if isinstance(frame, JobDone):
                if self._generator is not None:
                    self._generator.between_jobs()
                continue
            self._write(self._reply(frame))

    def _reply(self, frame: Request) -> bytes:
        """Return the encoded answer to a request, which is `Failed` if it cannot be done."""
        try:
            return encode(self._answer(frame))
        except BadFrame as error:
            # an answer too long to send concerns its job only: the next one may be short
            kind = JobError if isinstance(frame, GenerateFrame) else EnvironmentFault
            return encode(Failed(frame.id, kind.__name__, str(error)))
        except (JobError, EnvironmentFault) as error:
            return encode(Failed(frame.id, type(error).__name__, str(error)))
        except BrokenPipeError:
            raise
        except Exception as error:
            # a model that does not load is no fault of a job, and neither is a failed GPU (which
            # usually aborts the process): end, so that the worker sees why
            if isinstance(frame, Load) or is_command_buffer_fault(str(error)):
                raise
            traceback.print_exc()
            return encode(
                Failed(frame.id, InternalError.__name__, describe_error(error), self._stage(frame))
            )

    def _stage(self, frame: Request) -> Stage:
        if isinstance(frame, GenerateFrame) and self._heartbeat is not None:
            return self._heartbeat.stage
        return "render"

    def _answer(self, frame: Request) -> ToParent:
        match frame:
            case Unreadable(request_id, reason):
                return Failed(request_id, InternalError.__name__, reason, "encode")
            case Load(request_id, model, options):
                return self._load(request_id, model, options)
            case GenerateFrame(request_id, request):
                return Generated(request_id, self._generate(request_id, request))
            case Measure(request_id, model, request):
                return self._measure(request_id, model, request)

    def _load(self, request_id: int, model: str, options: EngineOptions) -> Loaded:
        from mh_batch.engine.generate import Generator
        from mh_batch.engine.model.blas import require_blas
        from mh_batch.engine.model.load import load

        require_blas(options.preload_blas)
        # drop the old weights before the new ones are read: both may not fit in memory
        self._inbox.hints.prepare_with(None)
        self._generator = None
        loaded = load(model, partial(self._report_phase, request_id))
        self._generator = Generator(loaded, options)
        self._inbox.hints.prepare_with(self._generator.prepare)
        return Loaded(request_id, loaded.info)

    def _measure(self, request_id: int, model: str, request: GenerationRequest) -> Measured:
        from mh_batch.engine.measure import PromptMeasurer

        report = partial(self._report_phase, request_id)
        if model not in self._measurers:
            self._measurers[model] = PromptMeasurer(model, report)
        report("render")
        fitted = self._measurers[model].fit(request)
        return Measured(request_id, len(fitted.tokens), fitted.max_tokens, fitted.dropped_turns)

    def _report_phase(self, request_id: int, phase: Phase) -> None:
        """Tell the worker the phase: it decides how long the process may be silent."""
        self._write(encode(Progress(request_id, 0, phase)))

    def _generate(self, request_id: int, request: GenerationRequest) -> Generation:
        if self._generator is None:
            raise EnvironmentFault("a generation was requested before a model was loaded")
        heartbeat = Heartbeat(request_id, lambda frame: self._write(encode(frame)))
        self._heartbeat = heartbeat
        self._inbox.hints.wait_for(request)

        def cancelled() -> bool:
            heartbeat.chunk()
            return self._inbox.is_cancelled(request_id)

        return self._generator.generate(request, cancelled, heartbeat.token)


def main() -> None:
    """Take over the pipes, say hello, serve."""
    # only the worker decides what Ctrl-C means, even if this was started in its session
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
