"""The requests that were sent and not answered yet."""

from .protocol import (
    BadFrame,
    Failed,
    Generated,
    GenerateFrame,
    Hello,
    Load,
    Loaded,
    Measure,
    Measured,
    Phase,
    Progress,
    Selftest,
    Selftested,
    ToParent,
)

Sent = Load | GenerateFrame | Measure | Selftest
Reply = Loaded | Generated | Measured | Selftested | Failed

_ANSWERS: dict[type[Sent], type[Reply]] = {
    Load: Loaded,
    GenerateFrame: Generated,
    Measure: Measured,
    Selftest: Selftested,
}
_FIRST: dict[type[Sent], Phase] = {GenerateFrame: "render", Selftest: "decode"}
_ORDER: tuple[Phase, ...] = ("load", "template", "render", "prefill", "decode")


class OpenRequests:
    """Knows which frames may come: each request is answered once, in any order."""

    def __init__(self) -> None:
        self._requests: dict[int, Sent] = {}
        self._phases: dict[int, Phase] = {}

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def attempts(self) -> dict[int, Phase]:
        """The phase of every open attempt, by the id of its request."""
        return {
            request.id: self._phases[request.id]
            for request in self._requests.values()
            if isinstance(request, GenerateFrame)
        }

    @property
    def furthest(self) -> Phase | None:
        """The phase of the request that is furthest, `None` if none is open.

        An attempt that waits for a slot is no further than `render`, so this is what the process
        does as long as another one runs.
        """
        return max(self._phases.values(), key=_ORDER.index, default=None)

    def add(self, request: Sent) -> None:
        """Open a request."""
        self._requests[request.id] = request
        # for the first measurement the tokeniser is loaded
        self._phases[request.id] = _FIRST.get(type(request), "load")

    def close(self, request_id: int) -> None:
        """Close a request; does nothing if it is closed."""
        self._requests.pop(request_id, None)
        self._phases.pop(request_id, None)

    def clear(self) -> None:
        """Close all of them."""
        self._requests.clear()
        self._phases.clear()

    def take(self, frame: ToParent) -> Progress | Reply:
        """Return a frame that may come: progress, which is noted, or an answer, which closes.

        Raises `BadFrame` for any other.
        """
        if isinstance(frame, Hello) or frame.id not in self._requests:
            raise BadFrame(f"an answer to no request: {frame}")
        request = self._requests[frame.id]
        if isinstance(frame, Progress):
            self._phases[frame.id] = frame.phase
        elif isinstance(frame, (Failed, _ANSWERS[type(request)])):
            self.close(frame.id)
        else:
            raise BadFrame(f"{type(request).__name__} answered with {type(frame).__name__}")
        return frame
