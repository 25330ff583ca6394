"""Requests that decode together: taken between two steps, answered in any order."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from mh_batch.jobs.generation import Generation
from mh_batch.worker.model_process.protocol import (
    Generated,
    GenerateFrame,
    JobDone,
    Measure,
    Shutdown,
    ToParent,
    encode,
)

from .heartbeat import Heartbeat
from .inbox import Inbox, Request, Taken, Unreadable
from .reply import encoded_reply

if TYPE_CHECKING:
    from mh_batch.engine.generate import Generator


class _Open(NamedTuple):
    frame: GenerateFrame
    heartbeat: Heartbeat


class SlotLoop:
    """Answers `Generate` requests for one number of slots, until none is open.

    A frame that has to wait for that is put into `waiting`, as is every request behind it.
    """

    def __init__(
        self,
        generator: "Generator",
        inbox: Inbox,
        write: Callable[[bytes], None],
        reply: Callable[[Request], bytes],
        waiting: deque[Taken],
    ) -> None:
        """`write` sends an encoded frame, `reply` answers what needs no slot."""
        self._generator = generator
        self._inbox = inbox
        self._write = write
        self._reply = reply
        self._waiting = waiting
        self._open: dict[int, _Open] = {}
        self._parallel = 0

    def run(self, frame: GenerateFrame) -> None:
        """Answer this request and those that come meanwhile; return early at a `Shutdown`.

        Raises what a step raises while several are open: any of them may be to blame.
        """
        self._parallel = frame.request.parallel
        self._begin(frame)
        while self._waiting and self._fits(first := self._waiting[0]):
            self._waiting.popleft()
            self._begin(first)
        while self._open and self._take_frames():
            self._step()

    def _fits(self, frame: Taken) -> TypeGuard[GenerateFrame]:
        """Whether a frame is a request for the same slots."""
        return isinstance(frame, GenerateFrame) and frame.request.parallel == self._parallel

    def _take_frames(self) -> bool:
        """Take the frames that have come; `False` at a `Shutdown`."""
        while (frame := self._inbox.poll()) is not None:
            match frame:
                case Shutdown():
                    self._waiting.appendleft(frame)
                    return False
                case JobDone():
                    self._generator.between_jobs()
                case Measure() | Unreadable():
                    self._write(self._reply(frame))
                case GenerateFrame() if not self._waiting and self._fits(frame):
                    self._begin(frame)
                case _:
                    self._waiting.append(frame)
        return True

    def _begin(self, frame: GenerateFrame) -> None:
        heartbeat = Heartbeat(frame.id, self._send)
        self._open[frame.id] = _Open(frame, heartbeat)
        self._inbox.hints.wait_for(frame.request)
        cancelled = heartbeat.watching(self._inbox.is_cancelled)
        try:
            slots = self._generator.slots(self._parallel)
            slots.add(frame.id, frame.request, cancelled, heartbeat.token)
        except Exception as error:  # noqa: BLE001  # answered, or raised with the answer
            self._answer(frame.id, error)

    def _step(self) -> None:
        """Run a step, answer what ended, and give a sign of life for what waits."""
        slots = self._generator.slots(self._parallel)
        for request_id in [id for id in self._open if self._inbox.is_cancelled(id)]:
            if (answer := slots.withdraw(request_id)) is not None:
                self._answer(*answer)
        try:
            answers = slots.step()
        except Exception as error:
            if len(self._open) > 1:
                raise
            for request_id in tuple(self._open):
                self._answer(request_id, error)
            return
        for answer in answers:
            self._answer(answer.id, answer.outcome)
        for request in self._open.values():
            request.heartbeat.turn_awaited()

    def _answer(self, request_id: int, outcome: Generation | Exception) -> None:
        frame, heartbeat = self._open.pop(request_id)
        answer = partial(_generated, request_id, outcome)
        self._write(encoded_reply(frame, answer, lambda: heartbeat.stage))
        self._inbox.answered(request_id)

    def _send(self, frame: ToParent) -> None:
        self._write(encode(frame))


def _generated(request_id: int, outcome: Generation | Exception) -> Generated:
    """Return the answer to an attempt; raises its error if it failed."""
    if isinstance(outcome, Exception):
        raise outcome
    return Generated(request_id, outcome)
