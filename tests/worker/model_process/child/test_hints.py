"""What comes next is rendered beside the model, and nothing ever has to wait for it."""

import io
import threading

from msgspec.structs import replace

from helpers.made import claimed
from mh_batch.jobs.generation import GenerationRequest
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.child.hints import Hints
from mh_batch.worker.model_process.child.inbox import Inbox

LIMIT = 30


def request_of(seed: int) -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    return replace(action.request, seed=seed)


FIRST, SECOND, THIRD = map(request_of, range(3))


class Renderer:
    """Renders nothing, for as long as it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.rendered: list[int] = []

    def __call__(self, request: GenerationRequest) -> None:
        self.begun.set()
        assert self.go_on.wait(LIMIT)
        self.rendered.append(request.seed)


def started(hints: Hints, renderer: Renderer) -> Hints:
    """Hints with the first one being rendered."""
    hints.prepare_with(renderer)
    hints.start()
    hints.put(FIRST)
    assert renderer.begun.wait(LIMIT)
    return hints


def test_whoever_needs_what_is_being_rendered_waits_for_it() -> None:
    renderer = Renderer()
    hints = started(Hints(), renderer)
    needs = threading.Thread(target=hints.wait_for, args=(FIRST,))
    needs.start()
    assert renderer.rendered == []
    renderer.go_on.set()
    needs.join(LIMIT)
    assert renderer.rendered == [FIRST.seed]


def test_nobody_waits_for_what_is_not_begun_or_is_another() -> None:
    renderer = Renderer()
    hints = started(Hints(), renderer)
    hints.put(SECOND)
    hints.wait_for(SECOND)
    hints.wait_for(THIRD)
    hints.put(THIRD)
    renderer.go_on.set()
    hints.wait_for(FIRST)
    assert SECOND.seed not in renderer.rendered


def test_a_hint_that_takes_too_long_is_broken_off_and_the_next_one_worked_on() -> None:
    begun, done = threading.Event(), threading.Event()

    def render(request: GenerationRequest) -> None:
        begun.set()
        while request == FIRST:
            pass
        done.set()

    hints = Hints(seconds=0.1)
    hints.prepare_with(render)
    hints.start()
    hints.put(FIRST)
    assert begun.wait(LIMIT)
    hints.wait_for(FIRST)
    hints.put(SECOND)
    assert done.wait(LIMIT)


def test_what_was_to_be_rendered_for_a_model_that_is_gone_is_forgotten() -> None:
    gone, here = Renderer(), Renderer()
    here.go_on.set()
    hints = Hints()
    hints.prepare_with(gone)
    hints.put(FIRST)
    hints.prepare_with(here)
    hints.start()
    hints.put(SECOND)
    assert here.begun.wait(LIMIT)
    assert not gone.begun.is_set()
    hints.wait_for(SECOND)
    assert here.rendered == [SECOND.seed]


def test_a_cancel_and_the_next_request_are_read_while_a_hint_is_rendered() -> None:
    renderer = Renderer()
    sent = (protocol.Prepare(FIRST), protocol.GenerateFrame(8, SECOND), protocol.Cancel(8))
    inbox = Inbox(io.BytesIO(b"".join(protocol.encode(frame) for frame in sent)))
    inbox.hints.prepare_with(renderer)
    inbox.hints.start()
    inbox.read_all()
    assert inbox.is_cancelled(8)
    assert inbox.poll() == protocol.GenerateFrame(8, SECOND)
