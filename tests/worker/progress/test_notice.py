"""`--notify`: the command is run at the end whatever that is, and changes nothing of it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import mh_batch, write_lines
from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.status import Status
from mh_batch.store import open_store
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.draining.reporter import OnIdle, Tally
from mh_batch.worker.draining.run import Outcome
from mh_batch.worker.progress.notice import Notice
from mh_batch.worker.runtime.shell import run_in_shell
from mh_batch.worker.runtime.stop import EndReason

KEEP = "cat > told.json"


def told(folder: Path) -> dict[str, Any]:
    """What the command read."""
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one conversation in its queue."""
    write_lines(tmp_path, [{"prompt": "Hello"}])
    mh_batch(tmp_path, "submit", "convos.jsonl")
    return tmp_path


def test_the_end_of_a_night_is_told_with_its_batches_and_counts(site: Site) -> None:
    open_store(site.db_path).close()
    site.submit(ONE, TWO)
    tally = Tally({Status.DONE: 1, Status.FAILED: 1}, {1}, tokens=30)
    notice = Notice(f"cat > {site.folder}/told.json", site.db_path, print)
    notice.outcome = Outcome(EndReason.EMPTY, tally, 1, 2.5)
    with pytest.raises(SystemExit), notice.at_the_end(lambda _: 1):
        raise SystemExit(1)
    found = told(site.folder)
    assert found["batches"] == [
        {
            "id": 1,
            "name": "b",
            "jobs": 2,
            "counts": {status: 2 * (status is Status.QUEUED) for status in Status},
        }
    ]
    assert (found["ended"], found["left"]) == ({"done": 1, "failed": 1}, 2)
    assert (found["end_reason"], found["exit_code"], found["fault"]) == ("queue_empty", 1, None)
    assert (found["tokens"], found["seconds"], found["run_id"]) == (30, 2.5, 1)
    assert found["db"] == str(site.db_path.resolve())


def test_an_empty_queue_is_told_and_the_command_may_stand_in_the_configuration(
    tmp_path: Path,
) -> None:
    open_store(tmp_path / "mh-batch.db").close()
    (tmp_path / "mh-batch.toml").write_text(f'notify = "{KEEP}"\n')
    mh_batch(tmp_path, "work", "--model", "demo")
    found = told(tmp_path)
    assert (found["end_reason"], found["exit_code"], found["ended"]) == ("queue_empty", 0, {})


def test_an_error_that_keeps_a_drain_from_beginning_is_told(folder: Path) -> None:
    arguments = ("--model", "demo", "--accept", "missing.py:f", "--notify", KEEP)
    for command in (["work"], ["run", "convos.jsonl", "-o", "out.jsonl"]):
        code = mh_batch(folder, *command, *arguments, code=None).returncode
        found = told(folder)
        assert code == found["exit_code"] != 0
        assert (found["end_reason"], found["run_id"]) == (None, None)
        assert "missing.py" in found["fault"]


@pytest.mark.parametrize(
    ("command", "said"), [("exit 7", "exit code 7"), ("kill -9 $$", "ended by signal 9")]
)
def test_a_command_that_fails_is_said_and_changes_no_exit_code(
    tmp_path: Path, command: str, said: str
) -> None:
    open_store(tmp_path / "mh-batch.db").close()
    done = mh_batch(tmp_path, "work", "--model", "demo", "--notify", command)
    assert f"--notify: {said}: {command}" in done.stderr.splitlines()


def test_a_command_that_hangs_is_killed_with_all_that_it_started() -> None:
    assert run_in_shell("sleep 600 | sleep 600", b"", 0.2) == "killed after 0.2 s"


def test_a_command_need_not_read_what_it_is_told() -> None:
    assert run_in_shell("true", b"x" * 2**20, 60) is None
    assert run_in_shell(f"{sys.executable} -c 'import sys; sys.stdin.read(1)'", b"xx", 60) is None


@pytest.mark.anyio
async def test_a_watching_worker_tells_each_time_that_the_queue_runs_empty_after_work(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)
    idle: list[int] = []
    notice = Notice(f"cat > {site.folder}/told.json", site.db_path, print)

    def tell(tally: Tally, run_id: int) -> None:
        notice.idle(tally, run_id)
        idle.append(tally.jobs)
        drains[0].stop.request()

    outcome = await drain(site, tell)
    with notice.at_the_end(lambda _: None):
        notice.idle(outcome.tally, outcome.run_id)  # nothing was done since: it is not told again
        while_it_went_on = joined(notice, site.folder)
    assert idle == [1]
    assert while_it_went_on["exit_code"] is None
    assert (while_it_went_on["ended"], while_it_went_on["left"]) == ({"done": 1}, 0)
    assert told(site.folder)["exit_code"] == 0


def test_while_the_command_runs_the_latest_news_waits_for_its_end(tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    # the first one ends when it is let go
    wait = f"case $told in *'\"done\":1'*) cat {go};; esac"
    command = f"told=$(cat); {wait}; echo $told >> {tmp_path}/told.json"
    notice = Notice(command, tmp_path / "none.db", print)
    with notice.at_the_end(lambda _: None):
        for jobs in (1, 2, 3):
            notice.idle(Tally({Status.DONE: jobs}), 1)
        go.open("w").close()
    lines = [json.loads(line) for line in (tmp_path / "told.json").read_text().splitlines()]
    assert [line["ended"] for line in lines] == [{"done": 1}, {"done": 3}, {}]


async def drain(site: Site, on_idle: OnIdle) -> Outcome:
    """Drain a queue and wait for more, until stopped."""
    return await site.drain(watch=True, on_idle=on_idle)


def joined(notice: Notice, folder: Path) -> dict[str, Any]:
    """What the command was told that runs beside the drain."""
    if (thread := notice._thread) is not None:
        thread.join(60)
    return told(folder)
