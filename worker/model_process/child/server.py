"""The process that holds the model: one thread owns MLX, another reads the pipe.

Started by `start_model`, never by hand. Its frames use what were standard input and output at the
start; libraries that print write to the worker's log instead.
"""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from mh_batch.jobs.errors import EnvironmentFault, InternalError, Stage
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.model_process.protocol import (
    PROTOCOL,
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
    Selftest,
    Selftested,
    Shutdown,
    ToParent,
    encode,
)

from .heartbeat import Heartbeat
from .inbox import Inbox, Request, Taken, Unreadable
from .reply import encoded_reply
from .slot_loop import SlotLoop

if TYPE_CHECKING:
    from mh_batch.engine.generate import Generator
    from mh_batch.engine.measure import PromptMeasurer


class ModelServer:
    """Answers requests on the thread that owns MLX.

    They are answered one after the other, but for attempts that decode together in slots.
    """

    def __init__(self, inbox: Inbox, write: Callable[[bytes], None]) -> None:
        """`write` sends an encoded frame."""
        self._inbox = inbox
        self._write = write
        self._generator: Generator | None = None
        self._heartbeat: Heartbeat | None = None
        self._measurers: dict[str, PromptMeasurer] = {}
        self._waiting: deque[Taken] = deque()

    def run(self) -> None:
        """Serve until asked to shut down."""
        while not isinstance(frame := self._next(), Shutdown):
            if isinstance(frame, JobDone):
                if self._generator is not None:
                    self._generator.between_jobs()
            elif (
                isinstance(frame, GenerateFrame)
                and frame.request.parallel > 1
                and self._generator is not None
            ):
                self._in_slots(self._generator, frame)
            else:
                self._write(self._reply(frame))
                self._inbox.answered(frame.id)

    def _next(self) -> Taken:
        """Return what waited for the slots to be idle, or else wait for the next frame."""
        return self._waiting.popleft() if self._waiting else self._inbox.get()

    def _in_slots(self, generator: "Generator", frame: GenerateFrame) -> None:
        """Answer this request, and those for as many slots that come meanwhile."""
        SlotLoop(generator, self._inbox, self._write, self._reply, self._waiting).run(frame)

    def _reply(self, frame: Request) -> bytes:
        """Return the encoded answer to a request, which is `Failed` if it cannot be done."""
        return encoded_reply(frame, partial(self._answer, frame), partial(self._stage, frame))

    def _stage(self, frame: Request) -> Stage:
        if isinstance(frame, GenerateFrame) and self._heartbeat is not None:
            return self._heartbeat.stage
        return "render"

    def _answer(self, frame: Request) -> ToParent:
        match frame:
            case Unreadable(request_id, reason):
                return Failed(request_id, InternalError.__name__, reason, "encode")
            case Load(request_id, model, options, parallel):
                return self._load(request_id, model, options, parallel)
            case GenerateFrame(request_id, request):
                return Generated(request_id, self._generate(request_id, request))
            case Measure(request_id, model, request):
                return self._measure(request_id, model, request)
            case Selftest(request_id, parallel, thorough):
                return self._selftest(request_id, parallel, thorough)

    def _load(self, request_id: int, model: str, options: EngineOptions, parallel: int) -> Loaded:
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
        if parallel == 1:
            return Loaded(request_id, loaded.info)
        limit = self._generator.slot_limit()
        return Loaded(request_id, msgspec.structs.replace(loaded.info, slots=limit))

    def _measure(self, request_id: int, model: str, request: GenerationRequest) -> Measured:
        from mh_batch.engine.measure import PromptMeasurer

        report = partial(self._report_phase, request_id)
        if model not in self._measurers:
            self._measurers[model] = PromptMeasurer(model, report)
        report("render")
        fitted = self._measurers[model].fit(request)
        return Measured(request_id, len(fitted.tokens), fitted.max_tokens, fitted.dropped_turns)

    def _selftest(self, request_id: int, parallel: int, thorough: bool) -> Selftested:
        if self._generator is None:
            raise EnvironmentFault("a self-test was requested before a model was loaded")
        heartbeat = Heartbeat(request_id, self._send)
        steps = count(1)
        found = self._generator.selftest(
            parallel, lambda: heartbeat.token(next(steps)), thorough=thorough
        )
        return Selftested(request_id, *found)

    def _report_phase(self, request_id: int, phase: Phase) -> None:
        """Tell the worker the phase: it decides how long the process may be silent."""
        self._send(Progress(request_id, 0, phase))

    def _send(self, frame: ToParent) -> None:
        self._write(encode(frame))

    def _generate(self, request_id: int, request: GenerationRequest) -> Generation:
        if self._generator is None:
            raise EnvironmentFault("a generation was requested before a model was loaded")
        heartbeat = Heartbeat(request_id, self._send)
        self._heartbeat = heartbeat
        self._inbox.hints.wait_for(request)
        cancelled = heartbeat.watching(self._inbox.is_cancelled)
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
