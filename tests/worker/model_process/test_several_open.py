"""Several attempts that are open at once, from the worker's side."""

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import psutil
import pytest
from msgspec.structs import replace

from helpers.made import claimed, generation
from helpers.paths import HELPERS
from mh_batch.jobs.errors import JobError, PromptTooLong
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.client import Answer, ModelClient, start_model
from mh_batch.worker.model_process.death import ProcessDied
from mh_batch.worker.model_process.process import SHUTDOWN_SECONDS
from mh_batch.worker.model_process.supervisor import ModelSupervisor
from mh_batch.worker.options import WorkerSettings

pytestmark = pytest.mark.anyio

SLOTS = 3
ANSWER = replace(generation(), timings=replace(generation().timings, parallel=SLOTS))


def request() -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    return replace(action.request, parallel=SLOTS)


def command(tmp_path: Path, script: Sequence[str]) -> tuple[str, ...]:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return (sys.executable, str(HELPERS / "scripted_child.py"), str(path))


def nothing(_: int, __: int) -> None:
    pass


async def begin_three(model: ModelClient | ModelSupervisor) -> tuple[int, int, int]:
    await model.load("demo")
    first, second, third = [await model.begin(request()) for _ in range(3)]
    assert len({first, second, third}) == 3
    return first, second, third


async def test_requests_are_answered_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    script = ["waiting", "decoding", "answer"]
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        first, second, third = await begin_three(client)
        answered = [
            await client.next_answer(lambda *progress: seen.append(progress)) for _ in range(3)
        ]
        assert client.open == frozenset()
        assert await client.generate(request(), lambda _: None) == ANSWER
    assert [answer.id for answer in answered] == [third, second, first]
    assert {answer.outcome for answer in answered} == {ANSWER}
    assert seen == [(first, 0), (second, 0), (third, 7), (second, 7), (first, 7)]


async def test_one_of_several_is_cancelled_and_the_others_go_on(tmp_path: Path) -> None:
    script = ["decoding", "decoding", "decoding", "answer"]
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        first, second, third = await begin_three(client)
        await client.cancel(second)
        cancelled = await client.next_answer(nothing)
        assert cancelled.id == second
        assert isinstance(cancelled.outcome, Generation)
        assert cancelled.outcome.stop_reason is StopReason.CANCELLED
        assert client.open == {first, third}
        await client.cancel(second)  # it is answered: nothing is sent
        last = await client.begin(request())
        ended = [await client.next_answer(nothing) for _ in range(3)]
    assert [answer.id for answer in ended] == [last, third, first]
    assert {answer.outcome for answer in ended} == {ANSWER}


async def test_an_error_of_one_is_its_answer_and_no_error_of_the_others(tmp_path: Path) -> None:
    script = ["decoding", "decoding", "too_long"]
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        first, second, third = await begin_three(client)
        failed, *others = [await client.next_answer(nothing) for _ in range(3)]
    assert failed.id == third
    assert isinstance(failed.outcome, PromptTooLong)
    assert [(one.id, one.outcome) for one in others] == [
        (second, ANSWER),
        (first, ANSWER),
    ]


async def test_a_death_tells_the_phase_of_each_that_was_open(tmp_path: Path) -> None:
    script = ["waiting", "reading", "die"]
    async with ModelSupervisor(tmp_path / "log", command=command(tmp_path, script)) as supervisor:
        first, second, third = await begin_three(supervisor)
        with pytest.raises(ProcessDied) as caught:
            await supervisor.next_answer(nothing)
        assert caught.value.phases == {first: "render", second: "prefill", third: "decode"}
        assert caught.value.death.phase == "decode"
        assert caught.value.death.signal == signal.SIGKILL
        assert (supervisor.running, supervisor.loaded) == (False, None)
        await supervisor.load("demo")
        only = await supervisor.begin(request())
        assert await supervisor.next_answer(nothing) == (only, ANSWER)


async def test_the_process_is_as_far_as_the_furthest_that_is_open(tmp_path: Path) -> None:
    # the last frame is about one that waits, which is not what the process does
    script = ["reading", "waiting", "decoding"]
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        await client.load("demo")
        for _ in range(2):
            await client.begin(request())
        waits = anyio.Event()
        with anyio.CancelScope() as scope:
            # two frames: of the first, then of the second
            await client.next_answer(lambda *_: scope.cancel() if waits.is_set() else waits.set())
        assert client.process.phase == "prefill"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [("stray", "an answer to no request"), ("mistaken", "GenerateFrame answered with Loaded")],
)
async def test_an_answer_that_cannot_be_is_a_death_of_all_that_are_open(
    tmp_path: Path, entry: str, reason: str
) -> None:
    script = ["decoding", "decoding", entry]
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        opened = await begin_three(client)
        with pytest.raises(ProcessDied, match=rf"SIGKILL.*{reason}.*: killed") as caught:
            await client.next_answer(nothing)
        assert caught.value.phases.keys() == set(opened)
        assert client.open == frozenset()


async def answer_unless_told(client: ModelClient) -> Answer | None:
    """Wait for an answer only as long as nothing else comes."""
    with anyio.CancelScope() as scope:
        return await client.next_answer(lambda *_: scope.cancel())
    return None


async def test_no_answer_is_lost_to_whoever_stops_waiting(tmp_path: Path) -> None:
    script = ["decoding", "decoding", "answer"]
    answered: list[int] = []
    async with start_model(tmp_path / "log", command=command(tmp_path, script)) as client:
        first, second, third = await begin_three(client)
        while client.open:
            if answer := await answer_unless_told(client):
                answered.append(answer.id)
    assert answered == [third, second, first]


async def test_an_answer_that_came_in_part_is_whole_the_next_time(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["halves"])) as client:
        await client.load("demo")
        only = await client.begin(request())
        with anyio.move_on_after(0.2) as cut_short:
            await client.next_answer(nothing)
        assert cut_short.cancelled_caught
        await client.cancel(only)
        assert await client.next_answer(nothing) == (only, generation())


async def wait_in_short_turns(client: ModelClient) -> None:
    while True:
        with anyio.move_on_after(0.1):
            await client.next_answer(nothing)


async def test_a_process_that_hangs_is_killed_however_often_the_wait_is_cut_short(
    tmp_path: Path,
) -> None:
    settings, script = WorkerSettings(hang_seconds=1.0), command(tmp_path, ["waiting", "hang"])
    async with start_model(tmp_path / "log", settings, script) as client:
        await client.load("demo")
        first, second = [await client.begin(request()) for _ in range(2)]
        with anyio.fail_after(60):
            with pytest.raises(ProcessDied, match="no sign of life for 1 s") as caught:
                await wait_in_short_turns(client)
    assert caught.value.phases == {first: "render", second: "prefill"}


async def test_a_stop_at_once_ends_the_process_with_all_that_is_open(tmp_path: Path) -> None:
    # well below the time that a process is given to end by itself
    with anyio.fail_after(SHUTDOWN_SECONDS / 2):
        async with ModelSupervisor(
            tmp_path / "log", command=command(tmp_path, ["decoding", "decoding", "wait"])
        ) as supervisor:
            await begin_three(supervisor)
            pid = supervisor.pid
            await supervisor.kill()
            assert pid is not None
            assert not psutil.pid_exists(pid)
            assert (supervisor.running, supervisor.loaded) == (False, None)
            await supervisor.load("demo")


async def test_a_request_that_cannot_be_encoded_is_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["decoding"])) as client:
        await client.load("demo")
        first = await client.begin(request())
        with monkeypatch.context() as patched:
            patched.setattr(protocol, "MAX_FRAME_BYTES", 10)
            with pytest.raises(JobError, match="too long to send"):
                await client.begin(request())
        assert client.open == {first}
        second = await client.begin(request())
        assert [(await client.next_answer(nothing)).id for _ in range(2)] == [second, first]
