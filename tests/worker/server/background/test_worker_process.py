"""The worker of a server ends with it, and not the other way round."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import time
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from helpers.forks import Forks
from helpers.served import wait_for
from mh_batch.jobs.settings import EngineOptions
from mh_batch.store.connection import open_store
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.server.background import worker_process
from mh_batch.worker.server.background.child import command, decode_options
from mh_batch.worker.server.background.worker_process import WorkerProcess
from mh_batch.worker.server.state import WorkerState

FAILS = "import sys; print('no model here', file=sys.stderr); sys.exit(3)"
ENDS_ON_SIGNAL = """
import signal, sys
def end(*_):
    print('stopping', file=sys.stderr)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready', file=sys.stderr, flush=True)
sys.stdin.read()
"""


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", program)


@pytest.mark.anyio
async def test_a_worker_that_ends_by_a_fault_is_told_and_started_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_process, "RESTART_SECONDS", 0.05)
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); {FAILS}"
    state = WorkerState()
    worker = WorkerProcess(python(program), state)

    def more(nbytes: int) -> bool:
        return nbytes >= 2

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            begun = partial(wait_for, lambda: starts.exists() and starts.stat().st_size, more)
            await anyio.to_thread.run_sync(begun)
            worker.stop()
    assert (state.running, state.fault) == (False, "no model here")
    told = capfd.readouterr().err
    assert "worker: no model here" in told
    assert "the server goes on, and starts it again" in told


@pytest.mark.anyio
async def test_a_worker_is_asked_to_end_and_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    state = WorkerState()
    worker = WorkerProcess(python(ENDS_ON_SIGNAL), state)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            ready = partial(wait_for, lambda: capfd.readouterr().err, lambda told: "ready" in told)
            await anyio.to_thread.run_sync(ready)
            assert state.running
            worker.stop()
    assert not state.running
    assert state.fault is None
    assert "worker: stopping" in capfd.readouterr().err


def test_the_options_of_a_worker_come_through_whole(tmp_path: Path) -> None:
    options = DrainOptions(
        tmp_path / "a b.db",
        "demo",
        tmp_path / "logs",
        parallel=3,
        watch=True,
        until=time(7, 30),
        engine=EngineOptions(prefix_cache_bytes=5),
        accept="check.py:good",
    )
    assert decode_options(command(options)[-1]) == options


def test_a_worker_whose_server_is_gone_ends_by_itself(tmp_path: Path, forks: Forks) -> None:
    db = tmp_path / "mh-batch.db"
    open_store(db).close()
    options = DrainOptions(db, "demo", tmp_path / "logs", watch=True)
    with subprocess.Popen(
        forks.command(command(options), tmp_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert "waiting for new work" in process.stderr.readline()
        process.stdin.close()
        # 1 if it was just looking for work
        assert process.wait(timeout=60) in (0, 1)
        process.stderr.close()
    with closing(sqlite3.connect(db)) as read:
        (reason,) = read.execute("SELECT end_reason FROM runs").fetchone()
    assert reason in ("stopped_while_idle", "stopped")
