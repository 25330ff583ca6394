"""A drain whose good answers are checked: by rules, by a function of a file, and in the worker."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.drained import ONE, Notes, Site
from helpers.made import generation
from helpers.store_samples import claim, start
from mh_batch.jobs.errors import InputError, Interrupted
from mh_batch.jobs.record import AttemptKey, ClaimedJob, History
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.worker.acceptance.checker import Checker
from mh_batch.worker.controller.conversation import Generate, GoodAnswer
from mh_batch.worker.controller.job import JobRun
from mh_batch.worker.draining.run import work_until_stopped
from mh_batch.worker.options import DrainOptions

pytestmark = pytest.mark.anyio

ATTEMPTS = """
select custom_id, attempt, verdict, retry_reason, rejected
from attempts join jobs on jobs.id = job_id order by job_id, attempt
"""
SECOND_ONLY = """
def check(job, answer):
    expected = job["metadata"]["expected"]
    return None if answer["final"] == expected and answer["attempt"] == 2 else "not the second"
"""


async def test_a_stop_ends_the_loading_of_a_file_that_never_loads(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("while True:\n    pass\n")

    async def stop() -> AsyncIterator[object]:
        yield "SIGINT"

    options = DrainOptions(db=tmp_path / "x.db", model="demo", logs=tmp_path)
    with pytest.raises(Interrupted, match="nothing was begun"):
        await work_until_stopped(
            options, Notes(), stop(), accept=f"{tmp_path / 'endless.py'}:check"
        )


class Waiting(Notes):
    """Says when so many attempts have begun."""

    def __init__(self, attempts: int) -> None:
        super().__init__()
        self._attempts = attempts
        self.begun = threading.Event()

    def attempt_started(self, job: ClaimedJob, key: AttemptKey) -> None:
        super().attempt_started(job, key)
        if len(self.began) == self._attempts:
            self.begun.set()


async def test_while_an_answer_is_checked_the_model_works_on_others_even_through_its_death(
    site: Site,
) -> None:
    site.submit(*[ONE] * 3)
    site.notes = notes = Waiting(attempts=4)

    def check(job: dict[str, Any], answer: dict[str, Any]) -> str | None:
        if (job["custom_id"], answer["attempt"]) != ("line-1", 1):
            return None
        # until the second job was answered, after the model had died of it, and the third begun
        return "came first" if notes.begun.wait(30) else None

    # with one check at a time, all verdicts come after the first one
    outcome = await site.drain(["answer", "die"], accept=check)
    assert outcome.tally.ended == {Status.DONE: 3}
    assert [name for name, _ in notes.began][:4] == ["line-1", "line-2", "line-2", "line-3"]
    assert max(beside for _, beside in notes.began) == 1
    assert site.rows(ATTEMPTS) == [
        ("line-1", 1, "retry", "rejected", "came first"),
        ("line-1", 2, "accept", None, None),
        ("line-2", 1, "accept", None, None),
        ("line-3", 1, "accept", None, None),
    ]
    ((record,),) = site.rows("select accept from runs")
    assert "check" in json.loads(str(record))["name"]
    assert site.sound()


async def test_a_function_of_a_file_sees_the_metadata_and_its_reason_is_in_the_artifacts(
    site: Site,
) -> None:
    site.submit(*[{**ONE, "n": 2, "expected": "answer"}] * 3)
    path = site.folder / "check.py"
    path.write_text(SECOND_ONLY)
    outcome = await site.drain(accept=f"{path}:check", parallel=2)
    assert outcome.tally.ended == {Status.DONE: 3}
    counts = "select attempt, verdict, rejected, count(*) from attempts group by 1, 2, 3"
    assert site.rows(counts) == [
        (1, "retry", "not the second", 6),
        (2, "accept", None, 6),
    ]
    first = json.loads((site.folder / "logs/1/1/retry.decision.1.1.json").read_text())
    second = json.loads((site.folder / "logs/1/1/retry.decision.1.2.json").read_text())
    assert (first["reason"], first["rejected"]) == ("rejected", "not the second")
    assert "not the second" in second["guidance"]


async def test_rules_of_a_line_and_a_function_that_fails_leave_jobs_incomplete(site: Site) -> None:
    site.submit({**ONE, "accept": {"regex": r"\d"}}, ONE, max_attempts=2)

    def broken(_job: dict[str, Any], answer: dict[str, Any]) -> str | None:
        return str(answer["no such key"])

    outcome = await site.drain(accept=broken)
    assert outcome.exit_code == 1
    no_digit = r"it must contain a match of the regular expression \d"
    fault = "accept function: KeyError: 'no such key'"
    last = "the attempts of turn 1 ran out; the best one is kept, although it was rejected: "
    assert site.rows("select status, error_code, error from jobs order by id") == [
        ("incomplete", "rejected", last + no_digit),
        ("incomplete", "rejected", last + fault),
    ]
    assert site.rows("select final, attempts, complete from turns") == [("answer", 2, 0)] * 2
    site.submit(ONE, max_attempts=3)
    await site.drain(accept=broken)
    assert "the accept function failed at 3 answers in a row" in site.notes.said.getvalue()
    # what was decided stands, and a retry without the function begins a new round
    assert site.retry("1") == 2
    await site.drain()
    assert site.rows("select status from jobs where custom_id = 'line-2'") == [("done",)]


def test_after_a_restart_the_next_attempt_has_the_guidance_of_an_undisturbed_run(
    site: Site,
) -> None:
    site.submit(ONE)
    with closing(open_store(site.db_path)) as db:
        run_id = start(db)
        job = claim(db, run_id)
        run = JobRun.resume(job, History())
        for reason in ("no digit", "half a \ufffd and <|end|>"):
            assert isinstance(run.next(), Generate)
            run.feed(0, generation(), rejected=reason)
            record = run.take_record()
            assert record is not None
            queue.record(db, job.id, run_id, record.attempt, record.turn, record.end)
        assert queue.recover(db) == 1
        again = claim(db, start(db))
        resumed = JobRun.resume(again, queue.read_history(db, again.id)).next()
    undisturbed = run.next()
    assert resumed == undisturbed
    assert isinstance(resumed, Generate)
    assert "half a \ufffd and <|end|>" in (resumed.request.prompt.guidance or "")


async def test_an_error_in_a_check_fails_the_job_it_is_about(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.submit({**ONE, "custom_id": "bad"}, ONE)
    original = Checker.rejection

    async def rejection(self: Checker, job: ClaimedJob, good: GoodAnswer) -> str | None:
        if job.custom_id == "bad":
            raise RuntimeError("a defect")
        return await original(self, job, good)

    monkeypatch.setattr(Checker, "rejection", rejection)
    outcome = await site.drain(accept=lambda _job, _answer: None)
    assert outcome.tally.ended == {Status.FAILED: 1, Status.DONE: 1}
    assert site.rows("select status, error_code from jobs order by id") == [
        ("failed", "internal_error"),
        ("done", None),
    ]


async def test_what_cannot_be_loaded_is_refused_before_anything_is_claimed(
    site: Site, tmp_path: Path
) -> None:
    site.submit(ONE)
    (tmp_path / "check.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match="ZeroDivisionError: division by zero"):
        await site.drain(accept=f"{tmp_path}/check.py:check")
    assert site.rows("select count(*) from runs") == [(0,)]
