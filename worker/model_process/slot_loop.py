"""Requests that decode together: taken between two steps, answered in any order."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeGuard

from mh_batch.jobs.generation import Generation, GenerationRequest

from .heartbeat import Heartbeat
from .inbox import Inbox, Request, Taken, Unreadable
from .protocol import Generated, GenerateFrame, JobDone, Measure, Shutdown, ToParent, encode
from .reply import encoded_reply


class SlotAnswer(Protocol):
    """What a request came to; an error concerns this request alone."""

    @property
    def id(self) -> int:
        """The id that the request was added with."""

    @property
    def outcome(self) -> Generation | Exception:
        """The result."""


class SlotGenerator(Protocol):
    """Runs several requests, one decode step of all at a time."""

    @property
    def busy(self) -> bool:
        """Whether a request is not answered."""

    def add(
        self,
        id: int,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        """Take a request, which begins once there is a slot and memory for it."""

    def step(self) -> Sequence[SlotAnswer]:
        """Decode one token of each, read at most one chunk of a prompt; return what ended."""


class SlotModel(Protocol):
    """A model that runs several requests at once."""

    def slots(self, parallel: int) -> SlotGenerator:
        """Return the slots, the same while `parallel` is; raises `EnvironmentFault`."""


class _Open(NamedTuple):
    frame: GenerateFrame
    heartbeat: Heartbeat


class SlotLoop:
    """Answers `Generate` requests for one number of slots, until none is open.

    A frame that has to wait for that is put into `waiting`, as is every request behind it.
    """

    def __init__(
        self,
        model: SlotModel,
        inbox: Inbox,
        write: Callable[[bytes], None],
        reply: Callable[[Request], bytes],
        waiting: deque[Taken],
    ) -> None:
        """`write` sends an encoded frame, `reply` answers what needs no slot."""
        self._model = model
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
                    pass  # the memory is in use
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
            slots = self._model.slots(self._parallel)
            slots.add(frame.id, frame.request, cancelled, heartbeat.token)
        except Exception as error:  # noqa: BLE001  # answered, or raised with the answer
            self._answer(frame.id, error)

    def _step(self) -> None:
        """Run a step, answer what ended, and give a sign of life for what waits."""
        slots = self._model.slots(self._parallel)
        try:
            answers = slots.step()
        except Exception as error:
            # what is left in a slot would be in the way of the next request
            if len(self._open) > 1 or slots.busy:
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
