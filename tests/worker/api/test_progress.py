"""`on_progress` and `adrain`: what a program hears meanwhile, and how it ends a drain."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import mh_batch
from helpers.store_samples import line, model
from mh_batch import Options, Progress, adrain, drain, submit
from mh_batch.jobs.errors import InputError, StoreUnusable
from mh_batch.jobs.record import ClaimedJob, JobEnd
from mh_batch.jobs.settings import Settings
from mh_batch.jobs.status import Status
from mh_batch.store import open_store
from mh_batch.worker.api import draining
from mh_batch.worker.draining.reporter import Display, Tally
from mh_batch.worker.draining.run import Outcome
from mh_batch.worker.options import DrainOptions
from mh_batch.worker.runtime.stop import EndReason

QUIET = Options(quiet=True, artifacts="off")
pytestmark = pytest.mark.anyio


@pytest.fixture
def db(tmp_path: Path) -> Path:
    open_store(tmp_path / "mh-batch.db").close()
    return tmp_path / "mh-batch.db"


def job(number: int) -> ClaimedJob:
    made = line(number)
    about = (number, 1, number, made.custom_id, model().name, made.request, Settings())
    return ClaimedJob(*about, seed=0, date="2026-01-01")


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every drain end three jobs at once, of which the second failed."""

    async def work(_: DrainOptions, display: Display, *__: object, **___: object) -> Outcome:
        tally = Tally(ended={}, tokens=30, rescued=1)
        for number, status in enumerate((Status.DONE, Status.FAILED, Status.DONE), start=1):
            tally.count(status)
            display.job_ended(job(number), JobEnd(status), tally, 3 - number)
        return Outcome(EndReason.EMPTY, tally, run_id=1, seconds=0.5)

    monkeypatch.setattr(draining, "work_until_stopped", work)


@pytest.mark.usefixtures("drained")
async def test_progress_comes_after_each_job_in_the_thread_of_the_caller(db: Path) -> None:
    heard: list[tuple[Progress, threading.Thread]] = []

    def hear(progress: Progress) -> None:
        heard.append((progress, threading.current_thread()))

    summaries = (
        drain(db, options=QUIET, on_progress=hear),
        await adrain(db, options=QUIET, on_progress=hear),
    )
    assert summaries[0] == summaries[1]
    assert {thread for _, thread in heard} == {threading.main_thread()}
    first, second, third = (progress for progress, _ in heard[:3])
    assert (first.custom_id, first.status, first.jobs, first.waiting) == ("line-1", "done", 1, 2)
    assert (second.status, second.ended) == ("failed", {"done": 1, "failed": 1})
    assert (third.jobs, third.waiting, third.tokens, third.rescued) == (3, 0, 30, 1)
    assert [msgspec.structs.replace(p, seconds=0.0) for p, _ in heard[3:]] == [
        msgspec.structs.replace(p, seconds=0.0) for p, _ in heard[:3]
    ]


@pytest.mark.usefixtures("drained")
def test_an_error_in_on_progress_is_a_warning_and_the_drain_goes_on(db: Path) -> None:
    calls = []

    def fail(progress: Progress) -> None:
        calls.append(progress)
        raise ValueError("no such bar")

    with pytest.warns(UserWarning, match="on_progress is called no more: ValueError: no such bar"):
        summary = drain(db, options=QUIET, on_progress=fail)
    assert len(calls) == 1
    assert summary.reason is EndReason.EMPTY


async def test_the_loop_goes_on_beside_a_drain_whose_cancellation_ends_it_at_once(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    begun = threading.Event()

    async def until_stopped_twice(
        _: DrainOptions, __: Display, stop_signals: AsyncIterator[Any], **___: object
    ) -> Outcome:
        begun.set()
        with anyio.fail_after(30):
            heard.extend([await anext(stop_signals), await anext(stop_signals)])
        return Outcome(EndReason.KILLED, Tally(), run_id=1, seconds=0.0)

    monkeypatch.setattr(draining, "work_until_stopped", until_stopped_twice)
    task = asyncio.get_running_loop().create_task(adrain(db, options=QUIET))
    await anyio.to_thread.run_sync(begun.wait, 30)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # it had ended before the call did
    assert len(heard) == 2


async def test_errors_are_those_of_the_blocking_call(tmp_path: Path, db: Path) -> None:
    with pytest.raises(StoreUnusable, match="no database"):
        await adrain(tmp_path / "mistyped.db")
    with pytest.raises(InputError, match="options: max_crashes"):
        await adrain(db, options=Options(max_crashes=0))
    (tmp_path / "check.py").write_text("")
    with pytest.raises(InputError, match="there is no function bad"):
        await adrain(db, options=QUIET, accept=f"{tmp_path / 'check.py'}:bad")


async def test_conversations_are_answered_while_the_loop_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    submit(path, [{"prompt": "What is 17 + 25?", "topic": {"kind": "sum"}}], temperature=0)
    heard: list[Progress] = []
    summary = await adrain(path, "demo", QUIET, on_progress=heard.append)
    assert summary.all_well
    assert [(p.custom_id, p.status, p.jobs, p.waiting) for p in heard] == [("line-1", "done", 1, 0)]
    assert heard[0].tokens == summary.tokens > 0
    (answered,) = mh_batch.results(path)
    plain = answered.to_dict()
    assert (plain["final"], plain["metadata"]) == ("17 + 25 = 42", {"topic": {"kind": "sum"}})
    assert plain["turns"][0]["final"] == plain["final"]
    assert (plain["turns"][0]["turn"], plain["turns"][0]["attempt"]) == (1, 1)
