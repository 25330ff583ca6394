"""The model process from the worker's side: answers, cancellations, deaths."""

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import psutil
import pytest
from made import claimed, generation

from mh_batch.jobs.errors import ModelChanged, ModelNotLoaded, PromptTooLong
from mh_batch.jobs.generation import GenerationRequest, StopReason
from mh_batch.jobs.settings import EngineOptions
from mh_batch.worker.conversation import ConversationRun, Generate
from mh_batch.worker.frames import BadFrame
from mh_batch.worker.model_client import SHUTDOWN_SECONDS, ProcessDied, start_model
from mh_batch.worker.model_host import ModelHost

pytestmark = pytest.mark.anyio


def request() -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    return action.request


def command(tmp_path: Path, script: Sequence[str]) -> tuple[str, ...]:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return (sys.executable, str(Path(__file__).parent / "scripted_child.py"), str(path))


def nothing(_: int) -> None:
    pass


async def test_an_attempt_is_answered_and_its_progress_told(tmp_path: Path) -> None:
    seen: list[int] = []
    async with start_model(tmp_path / "log", command(tmp_path, [])) as client:
        assert (await client.load("demo", EngineOptions())).name == "demo"
        assert await client.generate(request(), seen.append) == generation()
    assert seen == [7]
    assert not psutil.pid_exists(client.pid)


async def test_a_cancelled_attempt_still_has_exactly_one_answer(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command(tmp_path, ["wait", "answer"])) as client:
        await client.load("demo", EngineOptions())
        async with anyio.create_task_group() as tasks:
            # the first progress frame proves that the attempt is running
            answer = await client.generate(request(), lambda _: tasks.start_soon(client.cancel))
        assert answer.stop_reason is StopReason.CANCELLED
        assert await client.generate(request(), nothing) == generation()


async def test_a_killed_process_is_told_with_its_signal_and_last_words(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command(tmp_path, ["die"])) as client:
        await client.load("demo", EngineOptions())
        with pytest.raises(ProcessDied) as caught:
            await client.generate(request(), nothing)
    assert caught.value.death.signal == signal.SIGKILL
    assert caught.value.death.stderr_tail == "last words\n"
    assert "killed by SIGKILL; last words" in str(caught.value)


async def test_a_process_that_exits_is_told_with_its_exit_code(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command(tmp_path, ["exit"])) as client:
        await client.load("demo", EngineOptions())
        with pytest.raises(ProcessDied, match="exit code 5"):
            await client.generate(request(), nothing)


async def test_garbage_on_the_pipe_is_a_bad_frame(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command(tmp_path, ["garbage"])) as client:
        await client.load("demo", EngineOptions())
        with pytest.raises(BadFrame, match="no frame"):
            await client.generate(request(), nothing)


async def test_an_error_of_the_job_arrives_as_that_error(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command(tmp_path, ["too_long"])) as client:
        await client.load("demo", EngineOptions())
        with pytest.raises(PromptTooLong, match="9 tokens do not fit into 5"):
            await client.generate(request(), nothing)


async def test_a_program_that_is_no_model_process_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(BadFrame):
        async with start_model(tmp_path / "log", (sys.executable, "-c", "print('hello')")):
            pass


async def test_a_model_that_cannot_be_loaded_is_told_as_such(tmp_path: Path) -> None:
    async with ModelHost(tmp_path / "log", EngineOptions(), command(tmp_path, [])) as host:
        with pytest.raises(ModelNotLoaded, match="missing: no such folder"):
            await host.ensure("missing")
        with pytest.raises(ModelNotLoaded, match="deadly: the model process died while loading"):
            await host.ensure("deadly")
        assert host.loaded is None
        assert (await host.ensure("demo")).name == "demo"


async def test_other_weights_after_a_new_start_are_noticed(tmp_path: Path) -> None:
    async with ModelHost(tmp_path / "log", EngineOptions(), command(tmp_path, [])) as host:
        await host.ensure("changing")
        await host.recycle()
        with pytest.raises(ModelChanged, match="weights changed"):
            await host.ensure("changing")


async def test_the_host_brings_a_new_process_after_a_death(tmp_path: Path) -> None:
    async with ModelHost(tmp_path / "log", EngineOptions(), command(tmp_path, ["die"])) as host:
        await host.ensure("demo")
        first = host.pid
        with pytest.raises(ProcessDied):
            await host.generate(request(), nothing)
        assert host.loaded is None
        await host.ensure("demo")
        assert host.pid != first
        assert await host.generate(request(), nothing) == generation()


async def test_a_cancellation_in_the_middle_of_an_attempt_ends_the_process(tmp_path: Path) -> None:
    # well below the time that a process is given to end by itself
    with anyio.fail_after(SHUTDOWN_SECONDS / 2):
        async with ModelHost(
            tmp_path / "log", EngineOptions(), command(tmp_path, ["wait"])
        ) as host:
            await host.ensure("demo")
            with anyio.CancelScope() as scope:
                await host.generate(request(), lambda _: scope.cancel())
            pid = host.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
