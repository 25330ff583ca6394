"""Whatever goes wrong because of one job ends that job, and the queue goes on."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from helpers.drained import ONE, Site
from helpers.faulty_child import BAD
from helpers.paths import HELPERS
from mh_batch.jobs.errors import (
    EnvironmentFault,
    InternalError,
    ModelNotLoaded,
    ModelProcessDied,
    StoreUnusable,
)
from mh_batch.jobs.record import ClaimedJob
from mh_batch.jobs.status import FINISHED, Status
from mh_batch.store import queue
from mh_batch.store.connection import open_reader
from mh_batch.store.reports.results import finished_jobs
from mh_batch.worker.controller.conversation import ConversationRun
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.draining import artifacts
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.draining.run import Outcome, work
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.runtime.job_faults import at_stage, is_job_fault
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

Patch = pytest.MonkeyPatch
AROUND = 10
FAULTS = "select custom_id, error_code, error from jobs where status = 'failed'"
STATUSES = "select status, count(*) from jobs group by status order by status"


def submit_eleven(site: Site) -> None:
    """Ten jobs, and between the fifth and the sixth of them one that goes wrong."""
    good: list[dict[str, object]] = [{"custom_id": f"{n}", "prompt": f"Hi {n}"} for n in range(10)]
    bad: dict[str, object] = {"custom_id": "bad", "turns": [BAD, "And now?"]}
    site.submit(*good[:5], bad, *good[5:], max_tokens=2, max_attempts=1)


def is_bad(job: ClaimedJob) -> bool:
    return job.custom_id.startswith("bad")


def fail_in_run(monkeypatch: Patch, name: str) -> None:
    """Have a method of the bad job's run raise."""
    original = getattr(ConversationRun, name)

    def method(self: Any, *args: Any, **named: Any) -> Any:
        if is_bad(self._job):
            raise RuntimeError("injected")
        return original(self, *args, **named)

    monkeypatch.setattr(ConversationRun, name, method)


def fail_in_resume(monkeypatch: Patch) -> None:
    original = JobRun.resume

    def resume(job: ClaimedJob, checkpoint: Any) -> JobRun:
        if is_bad(job):
            raise RuntimeError("injected")
        return original(job, checkpoint)

    monkeypatch.setattr(JobRun, "resume", resume)


def fail_in_encode(monkeypatch: Patch) -> None:
    from mh_batch.worker.model_process import client
    from mh_batch.worker.model_process.protocol import encode

    def failing(frame: Any) -> bytes:
        if BAD in str(frame):
            raise RuntimeError("injected")
        return encode(frame)

    monkeypatch.setattr(client, "encode", failing)


def fail_in_artifacts(monkeypatch: Patch) -> None:
    original = artifacts.folder
    last: list[ClaimedJob] = []

    def folder(logs: Path, job: ClaimedJob) -> Path:
        last.append(job)
        return original(logs, job)

    def write(*_: object) -> None:
        if is_bad(last[-1]):
            raise RuntimeError("injected")

    monkeypatch.setattr(artifacts, "folder", folder)
    monkeypatch.setattr(artifacts, "write", write)


def fail_in_record(monkeypatch: Patch) -> None:
    original = queue.record

    def record(db: Any, job_id: int, *rest: Any) -> int:
        if job_id == 6:
            raise RuntimeError("injected")
        return original(db, job_id, *rest)

    monkeypatch.setattr(queue, "record", record)


IN_THE_WORKER: dict[str, Callable[[Patch], None]] = {
    "resume": fail_in_resume,
    "next": lambda patch: fail_in_run(patch, "generate"),
    "encode": fail_in_encode,
    "decision": lambda patch: fail_in_run(patch, "feed"),
    "artifacts": fail_in_artifacts,
    "record": fail_in_record,
}


def check_one_failed(site: Site, outcome: Outcome, stage: str) -> None:
    """The bad job is failed with stage and reason, the others are over, the log has the rest."""
    assert site.rows(STATUSES) == [("done", AROUND), ("failed", 1)]
    assert site.rows(FAULTS) == [
        (
            "bad",
            "internal_error",
            f"{stage}: RuntimeError: injected; the traceback is in worker.log",
        )
    ]
    assert outcome.tally.ended == {Status.DONE: AROUND, Status.FAILED: 1}
    assert outcome.exit_code == 1
    assert site.rows("select count(*) from crashes") == [(0,)]
    log = (site.folder / "logs" / "worker.log").read_text()
    assert "Traceback" in log
    assert f"job 6 (bad) failed: {stage}: RuntimeError: injected" in log
    assert site.sound()


@pytest.mark.parametrize("stage", IN_THE_WORKER)
async def test_an_error_in_the_worker_fails_the_job_it_is_about(
    site: Site, monkeypatch: Patch, stage: str
) -> None:
    submit_eleven(site)
    IN_THE_WORKER[stage](monkeypatch)
    check_one_failed(site, await site.drain(), stage)


async def drain_with(site: Site, stage: str) -> Outcome:
    """Drain with the demo model in a process that fails at `stage`."""
    child = str(HELPERS / "faulty_child.py")
    options = DrainOptions(site.db_path, "demo", site.folder / "logs")
    with anyio.fail_after(100):
        return await work(options, PlainDisplay(site.notes.said), (sys.executable, child, stage))


@pytest.mark.parametrize(
    ("fails", "stage"), [("render", "render"), ("generate", "generate"), ("parse", "generate")]
)
async def test_an_error_in_the_model_process_fails_the_job_it_is_about(
    site: Site, fails: str, stage: str
) -> None:
    submit_eleven(site)
    outcome = await drain_with(site, fails)
    assert outcome.tally.jobs == AROUND + 1
    assert outcome.tally.ended[Status.FAILED] == 1
    assert site.rows(FAULTS) == [
        (
            "bad",
            "internal_error",
            f"{stage}: RuntimeError: injected; the traceback is in worker.log",
        )
    ]
    assert site.rows("select count(*) from crashes") == [(0,)]
    assert site.rows("select count(distinct job_id) from attempts") == [(AROUND,)]
    assert 'raise RuntimeError("injected")' in (site.folder / "logs" / "worker.log").read_text()


async def test_a_row_that_cannot_be_read_fails_its_job(site: Site) -> None:
    submit_eleven(site)
    db = sqlite3.connect(site.db_path)
    with db:
        db.execute("""update jobs set request = '{"messages": 7}' where custom_id = 'bad'""")
    db.close()
    outcome = await site.drain()
    assert outcome.tally.ended == {Status.DONE: AROUND, Status.FAILED: 1}
    ((name, code, error),) = site.rows(FAULTS)
    assert (name, code) == ("bad", "internal_error")
    assert str(error).startswith("row: msgspec.ValidationError: Expected `array`")
    assert "Traceback" in (site.folder / "logs" / "worker.log").read_text()
    # nor does it keep the others from being read
    reader = open_reader(site.db_path)
    ended = {job.custom_id: job.error_code for job in finished_jobs(reader, 1, list(FINISHED))}
    reader.close()
    assert len(ended) == AROUND + 1
    assert ended["bad"] == "internal_error"


async def test_a_number_that_no_frame_holds_fails_its_job(site: Site) -> None:
    submit_eleven(site)
    tool = {"function": {"name": "f", "parameters": {"maximum": 10**20}}, "type": "function"}
    request = {"messages": [{"role": "user", "content": BAD}], "tools": [tool]}
    db = sqlite3.connect(site.db_path)
    with db:
        db.execute("update jobs set request = ? where id = 6", (json.dumps(request),))
    db.close()
    outcome = await site.drain()
    assert outcome.tally.ended == {Status.DONE: AROUND, Status.FAILED: 1}
    ((_, code, error),) = site.rows(FAULTS)
    assert code == "internal_error"
    assert str(error).startswith("encode: OverflowError: can't serialize ints")


@pytest.mark.parametrize("stage", ["resume", "next", "encode"])
async def test_jobs_that_fail_before_the_model_never_stop_the_worker(
    site: Site, monkeypatch: Patch, stage: str
) -> None:
    bad = [{"custom_id": f"bad {n}", "prompt": BAD} for n in range(5)]
    site.submit(*bad, {"custom_id": "good", "prompt": "Hi"})
    IN_THE_WORKER[stage](monkeypatch)
    outcome = await site.drain()
    assert outcome.tally.ended == {Status.FAILED: 5, Status.DONE: 1}
    assert "test prompt" not in site.notes.said.getvalue()


async def test_after_three_failures_in_a_row_an_answered_probe_lets_the_queue_go_on(
    site: Site,
) -> None:
    bad = [{"custom_id": f"bad {n}", "prompt": BAD} for n in range(4)]
    site.submit(*bad, {"custom_id": "good", "prompt": "Hi"}, max_tokens=8, max_attempts=1)
    outcome = await drain_with(site, "generate")
    assert outcome.tally.ended[Status.FAILED] == 4
    assert outcome.tally.jobs == 5
    said = site.notes.said.getvalue()
    assert said.count("3 jobs in a row failed at the model: sending it a test prompt") == 1
    assert "the model answered, so the jobs are at fault: going on" in said
    # nothing of it is left
    assert site.rows("select count(*), min(job_count) from batches") == [(1, 5)]
    assert site.rows("select count(*) from jobs") == [(5,)]
    assert site.rows("select distinct job_id from attempts") == [(5,)]
    assert [path.name for path in (site.folder / "logs").glob("probe-*")] == []


async def test_after_three_failures_in_a_row_a_failing_probe_puts_the_jobs_back(
    site: Site,
) -> None:
    site.submit(*({"prompt": f"Hi {n}"} for n in range(5)))
    with pytest.raises(ModelProcessDied, match=r"3 jobs in a row, .*injected.*back in the queue"):
        await drain_with(site, "all")
    assert site.rows("select status, error_code, error from jobs") == [("queued", None, None)] * 5
    assert site.rows("select end_reason, jobs_done from runs") == [("error", 0)]


@pytest.mark.parametrize(
    "function",
    [
        "mh_batch.worker.controller.conversation.ConversationRun.feed",
        "mh_batch.worker.draining.artifacts.files",
        "mh_batch.store.queue.recording.add_parse",
    ],
)
async def test_a_fault_behind_the_model_that_hits_every_job_stops_the_worker(
    site: Site, monkeypatch: Patch, function: str
) -> None:
    site.submit(*({"prompt": f"Hi {n}"} for n in range(6)))

    def fail(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(function, fail)
    with pytest.raises(ModelProcessDied, match=r"\d jobs in a row, .*injected.*back in the queue"):
        await site.drain()
    assert site.rows(STATUSES) == [("queued", 6)]
    monkeypatch.undo()
    assert (await site.drain()).exit_code == 0
    assert site.rows(STATUSES) == [("done", 6)]


async def test_an_error_while_a_turn_is_written_ends_the_job_though_the_next_one_runs(
    site: Site, monkeypatch: Patch
) -> None:
    site.submit({"custom_id": "bad", "turns": ["a", "b", "c"]}, {"prompt": "Hi"})
    original = queue.record

    def record(db: Any, job_id: int, run_id: int, attempt: Any, *rest: Any) -> int:
        if job_id == 1 and attempt.key.turn == 2:
            raise sqlite3.IntegrityError("injected")
        return original(db, job_id, run_id, attempt, *rest)

    monkeypatch.setattr(queue, "record", record)
    outcome = await site.drain()
    assert outcome.tally.ended == {Status.FAILED: 1, Status.DONE: 1}
    assert site.rows("select job_id, turn from turns") == [(1, 1), (2, 1)]
    monkeypatch.undo()
    # nothing is in its way once the defect is mended
    assert site.retry("1/bad") == 1
    assert (await site.drain()).exit_code == 0
    assert site.rows("select job_id, turn from turns order by 1, 2") == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
    ]


async def test_a_display_that_fails_at_a_job_loses_nothing_of_it(
    site: Site, monkeypatch: Patch
) -> None:
    site.submit({"custom_id": "bad", "prompt": "Hi"}, {"prompt": "Hi"})

    def job_ended(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(site.notes, "job_ended", job_ended)
    outcome = await site.drain()
    assert outcome.tally.ended == {Status.DONE: 2}
    assert site.rows(STATUSES) == [("done", 2)]
    assert "RuntimeError: injected" in (site.folder / "logs" / "worker.log").read_text()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("x"), True),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), True),
        (sqlite3.IntegrityError("x"), True),
        (sqlite3.OperationalError("disk I/O error"), False),
        (sqlite3.DatabaseError("malformed"), False),
        (OSError(28, "No space left on device"), False),
        (StoreUnusable("x"), False),
        (ModelProcessDied("x"), False),
    ],
)
def test_faults_of_the_store_the_disk_and_the_machine_are_no_jobs(
    error: Exception, expected: bool
) -> None:
    assert is_job_fault(error) is expected
    with pytest.raises(InternalError if expected else type(error)), at_stage("record"):
        raise error


def test_what_a_job_says_of_its_error_can_be_stored_whatever_the_error_says() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    for error in (ValueError("half \ud800 " + "x" * 100_000), Odd()):
        with pytest.raises(InternalError) as caught, at_stage("next"):
            raise error
        assert len(str(caught.value).encode()) < 3000


def test_an_environment_fault_of_a_block_is_raised_as_it_is() -> None:
    with pytest.raises(EnvironmentFault, match=r"^no disk$"), at_stage("artifacts"):
        raise EnvironmentFault("no disk")


async def test_the_probe_is_played_where_the_logs_are_a_link_to_another_disk(site: Site) -> None:
    (site.folder / "elsewhere").mkdir()
    (site.folder / "logs").symlink_to(site.folder / "elsewhere")
    bad = [{"custom_id": f"bad {n}", "prompt": BAD} for n in range(3)]
    site.submit(*bad, {"custom_id": "good", "prompt": "Hi"}, max_tokens=8, max_attempts=1)
    outcome = await drain_with(site, "generate")
    assert outcome.tally.jobs == 4
    assert "the model answered, so the jobs are at fault: going on" in site.notes.said.getvalue()


async def test_jobs_that_failed_in_a_row_before_a_stop_are_queued_again(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE, ONE, ONE, ONE)

    def stop_at_the_third(text: str) -> None:
        if "died on line-3" in text:
            drains[0].stop.request()

    site.notes.on_note = stop_at_the_third
    outcome = await site.drain(["die"] * 3, max_crashes=1)
    assert outcome.reason is EndReason.STOPPED
    assert site.rows(STATUSES) == [("queued", 4)]
    assert outcome.tally.jobs == 0


async def test_a_model_that_does_not_load_for_the_probe_leaves_the_jobs_queued(
    site: Site, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RELOAD_PAUSES", (0.0, 0.0))
    site.submit(ONE, ONE, ONE, {"prompt": "x", "model": "other"})
    with pytest.raises(ModelNotLoaded, match="demo: the model process died while loading it"):
        await site.drain(["die", "die", "die_for_good"], max_crashes=1)
    assert site.rows(STATUSES) == [("done", 1), ("queued", 3)]
