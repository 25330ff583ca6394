"""A self-test over the pipe: signs of life between its steps, and one answer."""

import io
from collections.abc import Callable
from typing import NamedTuple

import pytest

from mh_batch.jobs.errors import EnvironmentFault
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.child.inbox import Inbox
from mh_batch.worker.model_process.child.server import ModelServer
from mh_batch.worker.model_process.open_requests import OpenRequests
from mh_batch.worker.model_process.protocol import (
    Failed,
    Progress,
    Selftest,
    Selftested,
    Shutdown,
    ToParent,
)

VERDICT = SelftestVerdict(passed=True, speeds={1: 10.0, 8: 40.5}, recommended=8)


class Found(NamedTuple):
    verdict: SelftestVerdict
    memory: dict[int, int]
    checked: tuple[str, ...]


class Model:
    """Takes three steps for a test; cannot run in more than 8 slots."""

    def selftest(self, parallel: int, alive: Callable[[], None], *, thorough: bool) -> Found:
        if parallel > 8:
            raise EnvironmentFault("this model cannot run in 9 slots")
        for _ in range(3):
            alive()
        return Found(VERDICT, {8: 1000}, ("thorough",) if thorough else ("short",))


def serve(*frames: protocol.ToChild, model: Model | None) -> list[ToParent]:
    sent: list[ToParent] = []
    inbox = Inbox(io.BytesIO(b"".join(map(protocol.encode, (*frames, Shutdown())))))
    inbox.read_all()
    body = slice(protocol.HEADER_BYTES, None)
    server = ModelServer(inbox, lambda frame: sent.append(protocol.decode_to_parent(frame[body])))
    server._generator = model  # type: ignore[assignment]
    server.run()
    return sent


@pytest.mark.parametrize(("thorough", "name"), [(True, "thorough"), (False, "short")])
def test_a_test_gives_signs_of_life_and_one_answer(
    thorough: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.child.heartbeat.PROGRESS_SECONDS", 0.0)
    assert serve(Selftest(7, 8, thorough), model=Model()) == [
        *(Progress(7, step, "decode") for step in (1, 2, 3)),
        Selftested(7, VERDICT, {8: 1000}, (name,)),
    ]


def test_more_slots_than_can_be_are_answered_with_the_reason() -> None:
    assert serve(Selftest(1, 9, thorough=False), model=Model()) == [
        Failed(1, "EnvironmentFault", "this model cannot run in 9 slots")
    ]


def test_a_test_before_a_model_is_loaded_is_answered_with_an_error() -> None:
    (failed,) = serve(Selftest(1, 4, thorough=False), model=None)
    assert isinstance(failed, Failed)
    assert "before a model was loaded" in failed.message


def test_a_test_is_silent_no_longer_than_a_decode_and_is_answered_by_its_own_frame() -> None:
    requests = OpenRequests()
    requests.add(Selftest(1, 4, thorough=False))
    assert requests.furthest == "decode"
    assert requests.attempts == {}
    with pytest.raises(protocol.BadFrame, match="Selftest answered with"):
        requests.take(protocol.Measured(1, 1, 1, 0))
    assert requests.take(Selftested(1, VERDICT)) == Selftested(1, VERDICT)
    assert not requests
