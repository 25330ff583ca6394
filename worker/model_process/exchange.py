"""Requests and answers over one model process."""

from collections.abc import Callable

from mh_batch.jobs import errors
from mh_batch.jobs.errors import EnvironmentFault, InternalError, MhBatchError

from .death import Death, ProcessDied
from .open_requests import OpenRequests, Reply, Sent
from .process import ModelProcess
from .protocol import BadFrame, Failed, Phase, Progress


class Exchange:
    """Sends requests and receives answers, in any order. After `ProcessDied` nothing is open."""

    def __init__(self, process: ModelProcess) -> None:
        self._process = process
        self._requests = OpenRequests()

    @property
    def attempts(self) -> dict[int, Phase]:
        """The phase of every open attempt, by the id of its request."""
        return self._requests.attempts

    async def send(self, request: Sent, encoded: bytes) -> None:
        """Send a request, which is open then.

        Raises `ProcessDied`, but not beside other requests: whoever waits for those sees the death.
        """
        if not self._requests:
            self._process.start_clock()
        self._requests.add(request)
        self._update_phase()
        try:
            await self._process.send(encoded)
        except ProcessDied as error:
            if len(self._requests) == 1:
                raise self._died(error.death) from None

    async def receive(self, on_progress: Callable[[int, int], None]) -> Reply:
        """Return the next answer to any request; raises `ProcessDied`.

        A process that sends what cannot be is killed. Being cancelled loses no answer.
        """
        try:
            while True:
                frame = self._requests.take(await self._process.receive())
                self._update_phase()
                if not isinstance(frame, Progress):
                    return frame
                on_progress(frame.id, frame.tokens)
        except BadFrame as error:
            raise self._died(await self._process.kill_for(str(error))) from None
        except ProcessDied as error:
            raise self._died(error.death) from None

    def give_up(self, request_id: int) -> None:
        """Expect no answer to a request any more; does nothing if it was answered."""
        self._requests.close(request_id)

    def _update_phase(self) -> None:
        self._process.phase = self._requests.furthest or self._process.phase

    def _died(self, death: Death) -> ProcessDied:
        phases = self._requests.attempts
        self._requests.clear()
        return ProcessDied(death, phases)


def error_of(failed: Failed) -> MhBatchError:
    """Return the error that a `Failed` was in the child."""
    if failed.stage is not None:
        return InternalError(failed.message, failed.stage)
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, MhBatchError):
        return kind(failed.message)
    return EnvironmentFault(f"{failed.kind}: {failed.message}")
