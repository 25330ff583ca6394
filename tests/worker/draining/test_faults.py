"""Nothing is lost under faults: hangs, deaths, requests to cancel, a store that fails."""

import io
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import time
from pathlib import Path

import anyio
import pytest
from sqlite_utils import Database

from helpers.drained import ONE, TWO, Notes, Site
from mh_batch.jobs.errors import (
    ModelChanged,
    ModelNotLoaded,
    ModelProcessDied,
    NoModel,
    StoreUnusable,
    WorkerRunning,
)
from mh_batch.jobs.status import Status
from mh_batch.store.connection import open_reader
from mh_batch.store.lock import worker_lock
from mh_batch.worker.draining.loop import Drain
from mh_batch.worker.progress.summary import summarize_run, wrap_up
from mh_batch.worker.runtime.stop import EndReason

pytestmark = pytest.mark.anyio

STATUS = "select status from jobs order by id"
CRASHES = "select job_id, turn, attempt, phase, signal, exit_code from crashes order by id"


@pytest.fixture
def quick_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a model that died again at once."""
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RELOAD_PAUSES", (0.0, 0.0))


async def test_a_process_that_hangs_is_killed_and_its_attempt_made_again(site: Site) -> None:
    site.submit(ONE)
    assert (await site.drain(["hang"], hang_seconds=1.0)).exit_code == 0
    assert site.rows(CRASHES) == [(1, 1, 1, "prefill", 9, None)]
    assert site.rows("select stderr_tail from crashes") == [
        ("mh-batch: no sign of life for 1 s: killed\n",)
    ]
    assert site.rows("select attempt, verdict from attempts") == [(1, "accept")]


async def test_a_long_prefill_that_gives_signs_of_life_is_left_alone(site: Site) -> None:
    site.submit(ONE)
    assert (await site.drain(["slow"], hang_seconds=1.5)).exit_code == 0
    assert site.rows(CRASHES) == []


async def test_garbage_on_the_pipe_counts_as_a_death(site: Site) -> None:
    site.submit(ONE)
    assert (await site.drain(["garbage"])).exit_code == 0
    assert site.rows(CRASHES) == [(1, 1, 1, "decode", 9, None)]
    assert "invalid frame" in str(site.rows("select stderr_tail from crashes"))
    assert site.sound()


async def test_a_job_that_is_given_up_says_how_the_model_died(site: Site) -> None:
    site.submit(ONE, ONE)
    outcome = await site.drain(["die"], max_crashes=1)
    assert outcome.tally.ended == {Status.FAILED: 1, Status.DONE: 1}
    ((error,),) = site.rows("select error from jobs where status = 'failed'")
    assert error == (
        "the model process died 1 time in a row on turn 1: killed by SIGKILL (decode); last words"
    )


async def test_deaths_before_a_restart_of_the_worker_count(site: Site, drains: list[Drain]) -> None:
    site.submit(ONE)

    # the worker is stopped while it brings the model back
    def stop_now(text: str) -> None:
        if "died on" in text:
            drains[0].stop.request()
            drains[0].stop.request()

    site.notes.on_note = stop_now
    assert (await site.drain(["die"])).reason is EndReason.KILLED
    assert site.rows(STATUS) == [("queued",)]
    site.notes = Notes()
    await site.drain(["exit"])
    assert site.rows("select status, error_code from jobs") == [("failed", "model_crashed")]
    assert [row[3:] for row in site.rows(CRASHES)] == [("decode", 9, None), ("decode", None, 5)]


async def test_after_a_retry_earlier_deaths_count_no_more(site: Site) -> None:
    site.submit(ONE)
    await site.drain(["die", "die"])
    assert site.rows(STATUS) == [("failed",)]
    assert site.retry("b") == 1
    assert (await site.drain(["die"])).exit_code == 0
    assert site.rows("select attempt, round, verdict from attempts") == [(1, 1, "accept")]
    assert site.rows("select count(*) from crashes") == [(3,)]


async def test_a_model_that_survives_no_job_stops_the_worker_and_fails_none(site: Site) -> None:
    site.submit(ONE, ONE, ONE, ONE)
    with pytest.raises(ModelProcessDied, match=r"3 jobs in a row, .*back in the queue") as caught:
        await site.drain(["die"] * 7)
    assert caught.value.exit_code == 3
    assert site.rows("select status, error_code, error from jobs") == [("queued", None, None)] * 4
    assert site.rows("select end_reason, jobs_done from runs") == [("error", 0)]
    # earlier deaths do not count against them
    site.notes = Notes()
    assert (await site.drain(["die"])).exit_code == 0


async def test_a_worker_that_gives_up_leaves_alone_what_was_tried_again_meanwhile(
    site: Site,
) -> None:
    site.submit(ONE, ONE, ONE)
    again: list[int] = []

    def retry_first(text: str) -> None:
        if "died on line-3" in text and not again:
            again.append(site.retry("b/line-1"))

    site.notes.on_note = retry_first
    with pytest.raises(ModelProcessDied, match="3 jobs in a row"):
        await site.drain(["die"] * 7)
    assert again == [1]
    assert site.rows("select status, round from jobs order by id") == [
        ("queued", 1),
        ("queued", 0),
        ("queued", 0),
    ]
    # the first did fail, and that was recorded
    assert site.rows("select end_reason, jobs_done from runs") == [("error", 1)]


@pytest.mark.usefixtures("quick_reloads")
async def test_a_model_that_dies_at_its_first_load_is_tried_again(site: Site) -> None:
    site.submit({"prompt": "x", "model": "shaky"})
    assert (await site.drain()).exit_code == 0
    assert "trying again in 0 s" in site.notes.said.getvalue()


async def test_weights_that_changed_under_a_job_hold_up_no_others(site: Site) -> None:
    site.submit({"prompt": "x", "model": "changing"}, ONE)
    with pytest.raises(ModelChanged, match="changing: its weights changed"):
        await site.drain(["die"])
    assert site.rows(STATUS) == [("queued",), ("done",)]
    assert "trying again" not in site.notes.said.getvalue()


async def test_weights_that_changed_between_two_batches_hold_up_no_others(site: Site) -> None:
    for number, model in enumerate(("changing", "demo", "changing", "demo")):
        site.submit({"prompt": f"{number}", "model": model})
    with pytest.raises(ModelChanged, match="changing: its weights changed"):
        await site.drain(recycle_bytes=1)
    assert site.rows(STATUS) == [("done",), ("done",), ("queued",), ("done",)]


@pytest.mark.usefixtures("quick_reloads")
async def test_a_request_to_cancel_outlives_a_model_that_does_not_come_back(site: Site) -> None:
    site.submit(ONE, ONE)
    asked: list[object] = []

    def cancel(text: str) -> None:
        if "trying again" in text and not asked:
            asked.append(site.cancel("b/line-1"))

    site.notes.on_note = cancel
    with pytest.raises(ModelNotLoaded):
        await site.drain(["die_for_good"])
    assert str(asked) == "[Cancelled(at_once=0, asked=1)]"
    assert site.rows("select status, cancel_requested from jobs") == [
        ("cancelled", 0),
        ("queued", 0),
    ]
    assert site.rows("select jobs_done from runs") == [(1,)]


async def test_an_answer_in_between_shows_that_it_is_the_jobs(site: Site) -> None:
    site.submit(ONE, ONE, ONE, ONE)
    await site.drain(["die", "die", "die", "die", "answer", "die", "die"])
    assert site.rows(STATUS) == [("failed",), ("failed",), ("done",), ("failed",)]


@pytest.mark.usefixtures("quick_reloads")
async def test_a_model_that_does_not_come_back_leaves_its_jobs_and_holds_up_no_others(
    site: Site,
) -> None:
    site.submit(ONE, ONE, {"prompt": "x", "model": "other"})
    with pytest.raises(ModelNotLoaded, match="demo: the model process died while loading it"):
        await site.drain(["die_for_good"])
    assert site.rows(STATUS) == [("queued",), ("queued",), ("done",)]
    loads = [(1, 1, 1, "load", 9, None)] * 3
    assert site.rows(CRASHES) == [(1, 1, 1, "decode", 9, None), *loads]
    # deaths at load do not count: one more of the job is its second, not its fifth
    (site.folder / "script.dead").unlink()
    site.notes = Notes()
    assert (await site.drain()).exit_code == 0


async def test_a_job_that_is_cancelled_while_it_runs_keeps_its_earlier_turns(site: Site) -> None:
    site.submit(TWO, ONE)
    asked: list[object] = []

    attempts: list[int] = []

    def cancel_second_turn(count: int) -> None:
        attempts.append(count)
        if len(attempts) == 2:
            asked.append(site.cancel("1/line-1"))

    site.notes.on_tokens = cancel_second_turn
    with anyio.fail_after(30):
        outcome = await site.drain(["answer", "wait"])
    assert str(asked) == "[Cancelled(at_once=0, asked=1)]"
    assert outcome.tally.ended == {Status.CANCELLED: 1, Status.DONE: 1}
    assert outcome.exit_code == 0
    assert site.rows("select status, error, cancel_requested from jobs order by id") == [
        ("cancelled", None, 0),
        ("done", None, 0),
    ]
    assert site.rows("select job_id, turn, attempt from attempts") == [(1, 1, 1), (2, 1, 1)]
    # what was cut is no attempt, and so it is not counted either
    assert site.rows("select sum(completion_tokens) from attempts") == [(outcome.tally.tokens,)]
    assert site.rows(CRASHES) == []


async def test_a_job_that_is_cancelled_while_it_waits_its_turn_is_never_begun(site: Site) -> None:
    site.submit(ONE, ONE, ONE)
    asked: list[object] = []

    def cancel_all(_: int) -> None:
        # the second has been claimed ahead, the third is in the queue
        if not asked and site.rows("select count(*) from jobs where status = 'running'") == [(2,)]:
            asked.append(site.cancel("b"))

    site.notes.on_tokens = cancel_all
    outcome = await site.drain(["slow"])
    assert str(asked) == "[Cancelled(at_once=1, asked=2)]"
    # an answer that was whole before anybody could cut it is kept
    assert site.rows(STATUS) == [("done",), ("cancelled",), ("cancelled",)]
    assert site.rows("select job_id from attempts") == [(1,)]
    assert outcome.exit_code == 0


async def test_a_cancelled_job_can_be_tried_again_while_the_same_worker_runs(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)
    done: list[str] = []

    def cancel(_: int) -> None:
        if not done:
            done.append("cancelled")
            site.cancel("1")

    def retry(text: str) -> None:
        if "waiting" not in text:
            return
        if len(done) == 1:
            done.append("again")
            site.retry("1")
        else:
            drains[0].stop.request()

    site.notes.on_tokens, site.notes.on_note = cancel, retry
    outcome = await site.drain(["wait"], watch=True)
    assert done == ["cancelled", "again"]
    assert site.rows(STATUS) == [("done",)]
    assert (outcome.reason, outcome.exit_code) == (EndReason.IDLE, 0)


async def test_a_request_that_no_worker_noticed_is_honoured_by_the_next(site: Site) -> None:
    site.submit(ONE, ONE)
    db = Database(site.db_path)
    db.conn.execute("update jobs set status = 'running', cancel_requested = id = 1")
    db.conn.commit()
    db.close()
    await site.drain()
    assert site.rows(STATUS) == [("cancelled",), ("done",)]


async def test_a_worker_waits_for_a_lock_that_is_held_for_a_moment_and_no_longer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.run.LOCK_STEP_SECONDS", 0.01)
    site.submit(ONE)
    with worker_lock(site.db_path), pytest.raises(WorkerRunning, match=f"pid {os.getpid()}"):
        await site.drain()
    assert site.rows(STATUS) == [("queued",)]
    momentary = ExitStack()
    momentary.enter_context(worker_lock(site.db_path))
    attempts: list[Path] = []

    def lock(path: Path) -> AbstractContextManager[None]:
        attempts.append(path)
        if len(attempts) == 2:
            momentary.close()
        return worker_lock(path)

    monkeypatch.setattr("mh_batch.worker.draining.run.worker_lock", lock)
    assert (await site.drain()).exit_code == 0
    assert len(attempts) == 2


async def test_a_drain_ends_after_as_many_jobs_as_it_was_told(site: Site) -> None:
    site.submit(ONE, TWO, ONE)
    outcome = await site.drain(max_jobs=2)
    assert (outcome.reason, outcome.exit_code) == (EndReason.MAX_JOBS, 0)
    assert site.rows(STATUS) == [("done",), ("done",), ("queued",)]
    assert site.rows("select jobs_done, end_reason from runs") == [(2, "max_jobs_reached")]


async def test_a_drain_ends_after_the_running_attempt_at_its_time_limit(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = anyio.Event()

    async def until_hour(_: float) -> None:
        await hour.wait()

    monkeypatch.setattr("mh_batch.worker.draining.run.wait_for_clock", until_hour)
    site.submit(TWO)
    site.notes.on_tokens = lambda _: hour.set()
    outcome = await site.drain(["malformed"], until=time(7, 30))
    assert (outcome.reason, outcome.exit_code) == (EndReason.UNTIL, 0)
    assert site.rows("select turn, attempt from attempts") == [(1, 1)]
    assert site.rows(STATUS) == [("queued",)]
    assert site.rows("select end_reason from runs") == [("time_reached",)]
    assert "it is 07:30" in site.notes.said.getvalue()


async def test_a_watching_worker_takes_up_what_comes_and_ends_well_when_idle(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)
    idle: list[str] = []

    def when_idle(text: str) -> None:
        if "waiting for new work" in text:
            idle.append(text)
            if len(idle) == 1:
                site.submit(TWO)
            else:
                drains[0].stop.request()

    site.notes.on_note = when_idle
    outcome = await site.drain(watch=True)
    assert (outcome.reason, outcome.exit_code) == (EndReason.IDLE, 0)
    with closing(open_reader(site.db_path)) as reader:
        first, *others = wrap_up(summarize_run(outcome, reader, ""), results=True)
    assert first == "stopped while idle: 2 done"
    assert not any("goes on where this stopped" in line for line in others)
    assert len(idle) == 2
    assert site.rows(STATUS) == [("done",), ("done",)]


@pytest.mark.usefixtures("quick_reloads")
async def test_a_watching_worker_tries_a_model_again_that_nobody_writes_about(
    site: Site, monkeypatch: pytest.MonkeyPatch, drains: list[Drain]
) -> None:
    monkeypatch.setattr("mh_batch.worker.draining.model.loader.RETRY_SECONDS", 0.1)
    site.submit(ONE)

    def cure(text: str) -> None:
        if "can be run now" in text:
            (site.folder / "script.dead").unlink()
        elif "queue is empty" in text:
            drains[0].stop.request()

    site.notes.on_note = cure
    outcome = await site.drain(["die_for_good"], watch=True)
    assert (outcome.reason, outcome.exit_code) == (EndReason.IDLE, 0)
    assert site.rows(STATUS) == [("done",)]


async def test_a_watching_worker_leaves_a_model_that_failed_alone_and_says_so_at_its_end(
    site: Site, drains: list[Drain]
) -> None:
    site.submit({"prompt": "x", "model": "missing"})
    idle: list[str] = []

    def when_idle(text: str) -> None:
        if "waiting for new work" in text:
            idle.append(text)
            if len(idle) == 1:
                site.submit(ONE)
            else:
                drains[0].stop.request()

    site.notes.on_note = when_idle
    with pytest.raises(ModelNotLoaded, match="missing: no such folder"):
        await site.drain(watch=True)
    assert site.notes.said.getvalue().count("loading missing") == 1
    assert site.rows(STATUS) == [("queued",), ("done",)]
    assert site.rows("select end_reason from runs") == [("error",)]


async def test_a_watching_worker_outlives_a_job_without_a_model(
    site: Site, drains: list[Drain]
) -> None:
    site.submit(ONE)

    def when_idle(text: str) -> None:
        if "waiting" in text:
            drains[0].stop.request()

    site.notes.on_note = when_idle
    await site.drain(model=None, watch=True)
    assert "names no model" in site.notes.said.getvalue()
    with pytest.raises(NoModel):
        await site.drain(model=None)


async def test_a_watching_worker_notices_that_its_database_is_gone(site: Site) -> None:
    site.submit(ONE)

    def remove(text: str) -> None:
        if "waiting for new work" in text:
            site.db_path.rename(site.folder / "elsewhere.db")

    site.notes.on_note = remove
    with pytest.raises(StoreUnusable, match="deleted, moved or replaced"):
        await site.drain(watch=True)


def hold_the_lock(site: Site, held: list[sqlite3.Connection]) -> None:
    other = sqlite3.connect(site.db_path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    held.append(other)


async def test_a_lock_that_somebody_holds_for_a_while_only_delays_the_drain(site: Site) -> None:
    held: list[sqlite3.Connection] = []

    def hold_and_give_back(_: int) -> None:
        if not held:
            hold_the_lock(site, held)
            threading.Timer(0.5, held[0].close).start()

    site.submit(TWO, ONE)
    site.notes.on_tokens = hold_and_give_back
    assert (await site.drain()).exit_code == 0
    assert len(held) == 1
    assert site.rows("select count(*) from attempts") == [(3,)]
    assert site.sound()


def move_away(site: Site, _: list[sqlite3.Connection]) -> None:
    site.db_path.rename(site.folder / "elsewhere.db")


def put_another(site: Site, _: list[sqlite3.Connection]) -> None:
    site.db_path.rename(site.folder / "elsewhere.db")
    site.db_path.write_bytes(b"")


@pytest.mark.parametrize(
    ("strike", "said"),
    [
        (hold_the_lock, "another program has kept the database locked"),
        (move_away, "deleted, moved or replaced"),
        (put_another, "deleted, moved or replaced"),
    ],
)
async def test_a_store_that_fails_under_a_drain_ends_it_clearly_with_nothing_half(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    strike: Callable[[Site, list[sqlite3.Connection]], None],
    said: str,
) -> None:
    monkeypatch.setattr("mh_batch.store.connection.BUSY_SECONDS", 0.2)
    held: list[sqlite3.Connection] = []
    struck: list[int] = []

    def once(_: int) -> None:
        if not struck:
            struck.append(1)
            strike(site, held)

    site.submit(TWO, ONE)
    site.notes.on_tokens = once
    with pytest.raises(StoreUnusable, match=said) as caught:
        await site.drain(["slow"])
    assert caught.value.exit_code == 3
    for other in held:
        other.close()
    elsewhere = site.folder / "elsewhere.db"
    if elsewhere.exists():
        elsewhere.replace(site.db_path)
    site.notes = Notes(io.StringIO())
    assert (await site.drain()).exit_code == 0
    assert site.rows("select job_id, turn, attempt from attempts") == [
        (1, 1, 1),
        (1, 2, 1),
        (2, 1, 1),
    ]
    assert site.sound()
