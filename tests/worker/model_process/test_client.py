"""The model process from the worker's side: answers, cancellations, deaths."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import psutil
import pytest
from anyio.abc import Process

from helpers.made import claimed, generation
from helpers.paths import HELPERS
from mh_batch.jobs.errors import ModelChanged, ModelNotLoaded, PromptTooLong
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason
from mh_batch.worker.controller.conversation import ConversationRun, Generate
from mh_batch.worker.model_process import protocol
from mh_batch.worker.model_process.child.heartbeat import Heartbeat
from mh_batch.worker.model_process.child.inbox import Inbox
from mh_batch.worker.model_process.child.server import ModelServer
from mh_batch.worker.model_process.client import (
    DOWNLOAD_PROGRESS,
    start_model,
)
from mh_batch.worker.model_process.death import ProcessDied
from mh_batch.worker.model_process.process import SHUTDOWN_SECONDS
from mh_batch.worker.model_process.protocol import Progress, ToParent
from mh_batch.worker.model_process.supervisor import LoadDied, ModelSupervisor
from mh_batch.worker.options import WorkerSettings

pytestmark = pytest.mark.anyio


def request() -> GenerationRequest:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Generate)
    return action.request


def command(tmp_path: Path, script: Sequence[str]) -> tuple[str, ...]:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    return (sys.executable, str(HELPERS / "scripted_child.py"), str(path))


def nothing(_: int) -> None:
    pass


async def test_an_attempt_is_answered_and_its_progress_told(tmp_path: Path) -> None:
    seen: list[int] = []
    async with start_model(tmp_path / "log", command=command(tmp_path, [])) as client:
        assert (await client.load("demo")).name == "demo"
        assert await client.generate(request(), seen.append) == generation()
    assert seen == [7]
    assert not psutil.pid_exists(client.pid)


async def test_a_cancelled_attempt_still_has_exactly_one_answer(tmp_path: Path) -> None:
    async with start_model(
        tmp_path / "log", command=command(tmp_path, ["wait", "answer"])
    ) as client:
        await client.load("demo")
        only = await client.begin(request())
        async with anyio.create_task_group() as tasks:
            # the first progress frame proves that the attempt is running
            def cancel(_: int, __: int) -> None:
                tasks.start_soon(client.cancel, only)

            answer = await client.next_answer(cancel)
        assert isinstance(answer.outcome, Generation)
        assert answer.outcome.stop_reason is StopReason.CANCELLED
        assert await client.generate(request(), nothing) == generation()


async def test_a_killed_process_is_told_with_its_signal_and_last_words(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["die"])) as client:
        await client.load("demo")
        with pytest.raises(ProcessDied) as caught:
            await client.generate(request(), nothing)
    assert caught.value.death.signal == signal.SIGKILL
    assert caught.value.death.stderr_tail == "last words\n"
    assert "killed by SIGKILL (decode); last words" in str(caught.value)


async def test_a_process_that_exits_is_told_with_its_exit_code(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["exit"])) as client:
        await client.load("demo")
        with pytest.raises(ProcessDied, match="exit code 5"):
            await client.generate(request(), nothing)


async def test_what_a_process_wrote_before_anyone_looked_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = anyio.open_process

    async def started_and_gone(*args: Any, **kwargs: Any) -> Process:
        process = await start(*args, **kwargs)
        await process.wait()
        return process

    monkeypatch.setattr(anyio, "open_process", started_and_gone)
    (tmp_path / "log").write_text("an earlier process wrote this\n")
    with pytest.raises(ProcessDied) as caught:
        async with start_model(
            tmp_path / "log", command=(sys.executable, "-c", "raise SystemExit('no mlx here')")
        ):
            pytest.fail("it never said hello")
    assert caught.value.death.stderr_tail == "no mlx here\n"


async def test_a_process_that_writes_garbage_is_killed_and_that_is_a_death(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["garbage"])) as client:
        await client.load("demo")
        with pytest.raises(ProcessDied, match=r"killed by SIGKILL.*invalid frame.*: killed"):
            await client.generate(request(), nothing)


async def test_an_error_of_the_job_arrives_as_that_error(tmp_path: Path) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, ["too_long"])) as client:
        await client.load("demo")
        with pytest.raises(PromptTooLong, match="9 tokens do not fit into 5"):
            await client.generate(request(), nothing)


async def test_a_program_that_is_no_model_process_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ProcessDied, match="invalid frame"):
        async with start_model(tmp_path / "log", command=(sys.executable, "-c", "print('hello')")):
            pass


async def test_a_model_that_cannot_be_loaded_is_told_as_such(tmp_path: Path) -> None:
    async with ModelSupervisor(tmp_path / "log", command=command(tmp_path, [])) as supervisor:
        with pytest.raises(ModelNotLoaded, match="missing: no such folder"):
            await supervisor.load("missing")
        with pytest.raises(ModelNotLoaded, match="deadly: the model process died while loading"):
            await supervisor.load("deadly")
        assert supervisor.loaded is None
        assert (await supervisor.load("demo")).name == "demo"


async def test_other_weights_after_a_new_start_are_noticed(tmp_path: Path) -> None:
    async with ModelSupervisor(tmp_path / "log", command=command(tmp_path, [])) as supervisor:
        await supervisor.load("changing")
        await supervisor.reset()
        with pytest.raises(ModelChanged, match="weights changed"):
            await supervisor.load("changing")


async def test_the_host_brings_a_new_process_after_a_death(tmp_path: Path) -> None:
    async with ModelSupervisor(tmp_path / "log", command=command(tmp_path, ["die"])) as supervisor:
        await supervisor.load("demo")
        first = supervisor.pid
        with pytest.raises(ProcessDied):
            await supervisor.generate(request(), nothing)
        assert supervisor.loaded is None
        await supervisor.load("demo")
        assert supervisor.pid != first
        assert await supervisor.generate(request(), nothing) == generation()


async def test_a_cancellation_in_the_middle_of_an_attempt_ends_the_process(tmp_path: Path) -> None:
    # well below the time that a process is given to end by itself
    with anyio.fail_after(SHUTDOWN_SECONDS / 2):
        async with ModelSupervisor(
            tmp_path / "log", command=command(tmp_path, ["wait"])
        ) as supervisor:
            await supervisor.load("demo")
            with anyio.CancelScope() as scope:
                await supervisor.generate(request(), lambda _: scope.cancel())
            pid = supervisor.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_a_load_without_a_sign_of_life_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.model_process.process.LOAD_PATIENCE", 3)
    async with ModelSupervisor(
        tmp_path / "log", WorkerSettings(hang_seconds=1.0), command=command(tmp_path, [])
    ) as supervisor:
        with pytest.raises(LoadDied, match=r"stuck: .*SIGKILL \(load\); .*no sign of life for 3 s"):
            await supervisor.load("stuck")


async def test_a_load_that_writes_to_the_log_is_left_alone_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a download says every half second how far it is, and takes longer than the patience
    monkeypatch.setattr("mh_batch.worker.model_process.process.LOAD_PATIENCE", 1)
    async with ModelSupervisor(
        tmp_path / "log", WorkerSettings(hang_seconds=1.5), command=command(tmp_path, [])
    ) as supervisor:
        assert (await supervisor.load("noisy")).name == "noisy"


BAR = """
from huggingface_hub.utils.tqdm import _create_progress_bar, tqdm
bar = _create_progress_bar(cls=tqdm, log_level=30, name="x", total=9, unit="B", desc="weights")
bar.update(3)
bar.close()
"""


@pytest.mark.parametrize("disabled", [None, "1"])
def test_a_download_writes_to_the_log_how_far_it_is(tmp_path: Path, disabled: str | None) -> None:
    env = {k: v for k, v in os.environ.items() if k not in DOWNLOAD_PROGRESS}
    if disabled is not None:
        env["HF_HUB_DISABLE_PROGRESS_BARS"] = disabled
    said: list[str] = []
    for told in ({}, DOWNLOAD_PROGRESS):
        with (tmp_path / "log").open("w") as log:
            command = (sys.executable, "-c", BAR)
            subprocess.run(command, check=True, stderr=log, env={**env, **told}, timeout=60)
        said.append((tmp_path / "log").read_text())
    assert said[0] == ""
    assert "weights" in said[1]


async def test_a_hint_that_is_too_long_to_send_is_lost_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_model(tmp_path / "log", command=command(tmp_path, [])) as client:
        await client.load("demo")
        with monkeypatch.context() as patched:
            patched.setattr(protocol, "MAX_FRAME_BYTES", 10)
            await client.prepare(request())
        assert await client.generate(request(), nothing) == generation()


async def test_a_request_that_the_process_cannot_read_is_an_error_of_its_job(
    tmp_path: Path,
) -> None:
    async with start_model(tmp_path / "log") as client:
        body = msgspec.msgpack.encode({"type": "Generate", "id": 1, "request": {"seed": -1}})
        await client.process.send(len(body).to_bytes(protocol.HEADER_BYTES, "big") + body)
        failed = await client.process.receive()
        assert isinstance(failed, protocol.Failed)
        assert (failed.id, failed.kind, failed.stage) == (1, "InternalError", "encode")
        # and it is there for the next one
        assert (await client.load("demo")).name == "demo"


def test_an_answer_that_is_too_long_to_send_is_an_error_of_its_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inbox = Inbox(io.BytesIO())
    requests = iter([protocol.GenerateFrame(1, request()), protocol.Shutdown()])
    sent: list[bytes] = []
    monkeypatch.setattr(inbox, "get", lambda: next(requests))
    monkeypatch.setattr(ModelServer, "_generate", lambda *_: generation("long " * 100))
    monkeypatch.setattr(protocol, "MAX_FRAME_BYTES", 400)
    ModelServer(inbox, sent.append).run()
    failed = protocol.decode_to_parent(b"".join(sent)[protocol.HEADER_BYTES :])
    assert isinstance(failed, protocol.Failed)
    assert (failed.id, failed.kind) == (1, "JobError")
    assert "too long to send" in failed.message


def test_an_attempt_tells_each_of_its_phases_at_once_and_tokens_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 0.01, 0.1, 5.0, 5.01, 5.02, 5.03, 9.0, 9.01])
    monkeypatch.setattr(
        "mh_batch.worker.model_process.child.heartbeat.time.monotonic", lambda: next(clock)
    )
    sent: list[ToParent] = []
    heartbeat = Heartbeat(3, sent.append)
    for _ in range(3):
        heartbeat.chunk()
    heartbeat.chunk()  # the first token is read
    heartbeat.token(1)
    heartbeat.chunk()
    heartbeat.token(2)
    heartbeat.chunk()
    assert sent == [
        Progress(3, 0, "prefill"),
        Progress(3, 0, "prefill"),
        Progress(3, 1, "decode"),
        Progress(3, 2, "decode"),
    ]
