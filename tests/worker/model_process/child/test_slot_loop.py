"""The model process with several requests open: what it takes between two steps."""

import io
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from helpers.made import claimed, generation
from mh_batch.engine.slots.slot_generator import NOT_BEGUN, Answer
from mh_batch.jobs.errors import EnvironmentFault, InternalError, PromptTooLong
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.controller.conversation import ConversationRun
from mh_batch.worker.controller.conversation import Generate as Action
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.child.inbox import Inbox
from mh_batch.worker.model_process.child.server import ModelServer
from mh_batch.worker.model_process.protocol import (
    Failed,
    Generated,
    GenerateFrame,
    JobDone,
    Load,
    Loaded,
    Measure,
    Measured,
    Progress,
    Shutdown,
)

Outcome = Generation | Exception
Step = Callable[["Site"], list[tuple[int, Outcome]]]
"""What one step does: it returns what ends in it."""


def request(parallel: int = 4) -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Action)
    return replace(action.request, parallel=parallel)


def asked(request_id: int, parallel: int = 4) -> GenerateFrame:
    return GenerateFrame(request_id, request(parallel))


class Slots:
    """Plays one step after the other, and keeps what each request was added with."""

    def __init__(self, site: "Site") -> None:
        self.site = site
        self.added: dict[int, tuple[Callable[[], bool], Callable[[int], None]]] = {}

    @property
    def busy(self) -> bool:
        return bool(self.added)

    def add(
        self,
        id: int,
        request: GenerationRequest,
        cancelled: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        if fault := self.site.faults.get(id):
            raise fault
        self.site.did.append(f"add {id} of {request.parallel}")
        self.added[id] = cancelled, progress

    def withdraw(self, id: int) -> Answer | None:
        if id in self.site.begun:
            return None
        del self.added[id]
        return Answer(id, NOT_BEGUN)

    def step(self) -> list[Answer]:
        self.site.did.append("step")
        self.site.begun |= set(self.added)
        ended = next(self.site.steps)(self.site)
        for request_id, _ in ended:
            del self.added[request_id]
        return [Answer(*one) for one in ended]


class Site:
    """A server whose model plays steps; frames are fed to it in the midst of them."""

    def __init__(self, *steps: Step) -> None:
        self.stream = io.BytesIO()
        self.inbox = Inbox(self.stream)
        self.steps: Iterator[Step] = iter(steps)
        self.faults: dict[int, Exception] = {}
        self.begun: set[int] = set()
        self.did: list[str] = []
        self.sent: list[protocol.ToParent] = []
        self.by_parallel: dict[int, Slots] = {}
        self.server = ModelServer(self.inbox, self.write)
        self.server._generator = self  # type: ignore[assignment]

    def write(self, encoded: bytes) -> None:
        self.sent.append(protocol.decode_to_parent(encoded[protocol.HEADER_BYTES :]))

    def feed(self, *frames: protocol.ToChild) -> None:
        """Have frames arrive."""
        at = self.stream.tell()
        self.stream.seek(0, io.SEEK_END)
        self.stream.writelines(map(protocol.encode, frames))
        self.stream.seek(at)
        self.inbox.read_all()

    def serve(self, *frames: protocol.ToChild) -> list[protocol.ToParent]:
        """Serve these first; return all that was answered until it shut down."""
        self.feed(*frames)
        self.server.run()
        return [frame for frame in self.sent if not isinstance(frame, Progress)]

    @property
    def added(self) -> dict[int, tuple[Callable[[], bool], Callable[[int], None]]]:
        """What is in the slots that are in use."""
        return next(slots.added for slots in self.by_parallel.values() if slots.added)

    # what the server asks a model for

    def slots(self, parallel: int) -> Slots:
        return self.by_parallel.setdefault(parallel, Slots(self))

    def generate(self, *_: object) -> Generation:
        self.did.append("generate alone")
        return generation()

    def between_jobs(self) -> None:
        self.did.append("between jobs")


def ends(*ids: int) -> Step:
    """A step in which these end well."""
    return lambda _: [(request_id, generation()) for request_id in ids]


def then(*frames: protocol.ToChild, end: tuple[int, ...] = ()) -> Step:
    """A step in which frames arrive."""

    def step(site: Site) -> list[tuple[int, Outcome]]:
        site.feed(*frames)
        return [(request_id, generation()) for request_id in end]

    return step


def test_requests_that_come_between_two_steps_are_added_and_answered_as_they_end() -> None:
    site = Site(then(asked(2), asked(3)), ends(3), then(Shutdown(), end=(1, 2)))
    answered = site.serve(asked(1))
    assert answered == [Generated(request_id, generation()) for request_id in (3, 1, 2)]
    assert site.did == [
        "add 1 of 4", "step", "add 2 of 4", "add 3 of 4", "step", "step"
    ]  # fmt: skip


def test_one_conversation_at_a_time_is_asked_for_as_before() -> None:
    site = Site()
    frames = (asked(1, parallel=1), protocol.Cancel(1), asked(2, parallel=1), JobDone())
    answered = site.serve(*frames, Shutdown())
    assert answered == [Generated(1, generation()), Generated(2, generation())]
    assert site.did == ["generate alone", "generate alone", "between jobs"]
    assert not site.inbox.is_cancelled(1)  # it is answered


def test_a_load_waits_until_nothing_is_open_and_what_is_behind_it_waits_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from helpers.scripted_child import INFO

    def load(_: ModelServer, request_id: int, *__: object) -> Loaded:
        site.did.append("load")
        return Loaded(request_id, INFO)

    monkeypatch.setattr(ModelServer, "_load", load)
    behind = (Load(2, "demo", EngineOptions()), asked(3), asked(4))
    site = Site(then(*behind), ends(1), ends(3), then(Shutdown(), end=(4,)))
    answered = site.serve(asked(1))
    assert answered == [
        Generated(1, generation()),
        Loaded(2, INFO),
        Generated(3, generation()),
        Generated(4, generation()),
    ]
    assert site.did == [
        "add 1 of 4", "step", "step", "load", "add 3 of 4", "add 4 of 4", "step", "step"
    ]  # fmt: skip


def test_another_number_of_slots_waits_until_nothing_is_open() -> None:
    site = Site(
        then(asked(2, parallel=2), asked(3), asked(4, parallel=1)),
        ends(1),
        ends(2),
        then(Shutdown(), end=(3,)),
    )
    answered = site.serve(asked(1))
    assert [frame.id for frame in answered if isinstance(frame, Generated)] == [1, 2, 3, 4]
    assert site.did == [
        "add 1 of 4", "step", "step", "add 2 of 2", "step", "add 3 of 4", "step", "generate alone"
    ]  # fmt: skip


def test_a_measurement_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Measured(2, 10, 20, 0)
    monkeypatch.setattr(ModelServer, "_measure", lambda *_: measured)
    site = Site(
        then(asked(3, parallel=2), Measure(2, "demo", request())),
        ends(1),
        then(Shutdown(), end=(3,)),
    )
    assert site.serve(asked(1)) == [
        measured,
        Generated(1, generation()),
        Generated(3, generation()),
    ]


def test_memory_is_given_back_at_the_end_of_a_job_while_others_go_on() -> None:
    site = Site(then(asked(2), JobDone()), ends(1), then(Shutdown(), end=(2,)))
    site.serve(asked(1))
    assert site.did == ["add 1 of 4", "step", "add 2 of 4", "between jobs", "step", "step"]


def test_a_shutdown_leaves_what_is_open() -> None:
    site = Site(then(asked(2, parallel=1), Shutdown(), asked(3)))
    assert site.serve(asked(1)) == []
    assert site.did == ["add 1 of 4", "step"]


def test_a_cancellation_is_seen_by_its_request_alone_and_forgotten_with_the_answer() -> None:
    seen: list[list[int]] = []

    def look(site: Site) -> list[tuple[int, Outcome]]:
        seen.append([key for key, (cancelled, _) in site.added.items() if cancelled()])
        return [(2, generation())] if len(seen) == 2 else []

    site = Site(then(asked(2)), then(protocol.Cancel(2)), look, look, look, then(Shutdown()))
    site.serve(asked(1))
    assert seen == [[2], [2], []]
    site.feed(protocol.Cancel(2))  # it comes too late
    assert not site.inbox.is_cancelled(2)


def test_each_request_tells_its_phase_and_one_that_waits_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.child.heartbeat.PROGRESS_SECONDS", 0.0)

    def read(site: Site) -> list[tuple[int, Outcome]]:
        cancelled, _ = site.added[1]
        assert not cancelled()
        return []

    def decode(site: Site) -> list[tuple[int, Outcome]]:
        _, progress = site.added[1]
        progress(5)
        site.feed(Shutdown())
        return []

    site = Site(read, decode)
    assert site.serve(asked(1), asked(2)) == []
    assert site.sent == [
        Progress(1, 0, "prefill"),
        Progress(2, 0, "render"),
        Progress(1, 5, "decode"),
        Progress(2, 0, "render"),
    ]


def test_an_error_of_one_request_is_its_answer_and_the_others_go_on() -> None:
    def fail(site: Site) -> list[tuple[int, Outcome]]:
        site.added[3][0]()  # its prompt is read
        return [
            (1, PromptTooLong("9 tokens do not fit into 5")),
            (2, InternalError("odd", "render")),
            (3, ZeroDivisionError("injected")),
        ]

    site = Site(fail, then(Shutdown(), end=(4,)))
    answered = site.serve(*map(asked, (1, 2, 3, 4)))
    assert answered == [
        Failed(1, "PromptTooLong", "9 tokens do not fit into 5"),
        Failed(2, "InternalError", "odd", "render"),
        Failed(3, "InternalError", "ZeroDivisionError: injected", "generate"),
        Generated(4, generation()),
    ]


def test_a_request_that_is_not_taken_is_answered_with_the_reason() -> None:
    site = Site(then(Shutdown(), end=(2,)))
    site.faults[1] = EnvironmentFault("this model runs in one slot only")
    assert site.serve(asked(1), asked(2)) == [
        Failed(1, "EnvironmentFault", "this model runs in one slot only"),
        Generated(2, generation()),
    ]


def test_an_answer_that_is_too_long_to_send_is_an_error_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "MAX_FRAME_BYTES", 1500)
    site = Site(lambda _: [(1, generation("long " * 300))], then(Shutdown(), end=(2,)))
    failed, answer = site.serve(asked(1), asked(2))
    assert isinstance(failed, Failed)
    assert (failed.id, failed.kind) == (1, "JobError")
    assert answer == Generated(2, generation())


def failing(*frames: protocol.ToChild) -> Step:
    """A step in which frames arrive and which fails."""

    def step(site: Site) -> list[tuple[int, Outcome]]:
        site.feed(*frames)
        site.added.clear()
        raise ZeroDivisionError("injected")

    return step


def test_a_step_that_fails_is_an_error_of_the_only_open_request() -> None:
    site = Site(failing(asked(2)), then(Shutdown(), end=(2,)))
    failed, answer = site.serve(asked(1))
    assert failed == Failed(1, "InternalError", "ZeroDivisionError: injected", "render")
    assert answer == Generated(2, generation())


def test_a_step_that_fails_with_several_requests_open_ends_the_process() -> None:
    site = Site(failing())
    with pytest.raises(ZeroDivisionError):
        site.serve(asked(1), asked(2))
    assert site.sent == []


def test_a_cancelled_request_that_waits_is_answered_before_the_next_step() -> None:
    site = Site(then(asked(2), protocol.Cancel(2)), then(Shutdown(), end=(1,)))
    assert site.serve(asked(1)) == [Generated(2, NOT_BEGUN), Generated(1, generation())]


def test_a_failed_command_buffer_ends_the_process_whichever_request_it_came_with() -> None:
    fault = RuntimeError("[METAL] kIOGPUCommandBufferCallbackErrorInnocentVictim")
    site = Site(lambda _: [(1, fault)])
    with pytest.raises(RuntimeError, match="METAL"):
        site.serve(asked(1), asked(2))
    assert site.sent == []


def test_a_request_without_a_model_is_refused() -> None:
    site = Site()
    site.server._generator = None
    (failed,) = site.serve(asked(1), Shutdown())
    assert isinstance(failed, Failed)
    assert failed.kind == "EnvironmentFault"
