"""`mh-batch report A B`: the same prompts, both answers beside each other."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from helpers.html import Page
from helpers.store_samples import DONE, attempt, claim, generation, model, start, submit, turn
from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.record import AttemptKey, JobEnd, JobLine, Verdict
from mh_batch.jobs.settings import Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store import queue
from mh_batch.store.connection import open_store
from mh_batch.worker.cli import app

HOSTILE = "<script>alert(1)</script> \x1b[31mred"
JOBS = [
    JobLine(1, "sum", None, Request((Message("user", "two and two?"),))),
    JobLine(2, "twice", None, Request(turns=("first?", "second?"))),
    JobLine(3, "waiting", None, Request(turns=("later?",))),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Batches `warm` and `cold`: the same jobs, one of them cut in `cold`, one never answered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    db = open_store(Path("mh-batch.db"))
    for name, temperature in (("warm", 0.9), ("cold", 0.1)):
        submit(db, JOBS, name, settings=apply(Settings(), {"temperature": temperature}))
        run_id = start(db)
        made = replace(attempt(), generation=generation(text=f"{name} {HOSTILE}"))
        said = replace(turn(), final=f"{name} {HOSTILE}")
        queue.record(db, claim(db, run_id).id, run_id, made, said, DONE)
        job = claim(db, run_id)
        queue.record(db, job.id, run_id, attempt(), replace(turn(), user="first?"), None)
        second = attempt(AttemptKey(turn=2), Verdict.ACCEPT if name == "warm" else Verdict.GIVE_UP)
        kept = replace(turn(second.key, complete=name == "warm"), user="and then?")
        if name == "cold":
            kept = replace(kept, finish_reason="length")
        end = DONE if name == "warm" else JobEnd(Status.INCOMPLETE)
        queue.record(db, job.id, run_id, second, kept, end)
        db.execute("UPDATE jobs SET status = 'cancelled' WHERE status = 'queued'")
    db.close()
    return tmp_path


def page(*arguments: str) -> Page:
    done = CliRunner().invoke(app, ["report", *arguments, "-o", "-"])
    assert done.exit_code == 0, done.exception
    return Page(done.stdout)


@pytest.mark.usefixtures("folder")
def test_both_answers_stand_beside_each_other_with_outcome_and_speed() -> None:
    found = page("warm", "cold")
    assert found.open == []
    words = " ".join(found.text.split())
    assert "warm and cold" in words
    assert "3 pairs of 3 and 3 jobs" in words
    assert "temperature0.90.1" in words
    for text in ("warm <script>", "cold <script>", "done, 6 tokens in 2 attempts, 1.0 s"):
        assert text in words
    assert words.index("Other outcomes") < words.index("Other answers")
    # the question once, each answer under the name of its batch
    assert words.count("two and two?") == 1
    assert words.count("and then?") == 1
    assert "incomplete, 6 tokens" in words
    assert words.count("assistant, final cut") == 1


@pytest.mark.usefixtures("folder")
def test_what_conversations_hold_stays_text_on_this_page_too() -> None:
    html = CliRunner().invoke(app, ["report", "1", "2", "-o", "-"]).stdout
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\\x1b[31mred" in html


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("named", "complaint"),
    [(["1", "2", "1"], "these are 3"), (["1", "warm"], "both are batch 1")],
)
def test_two_different_batches_are_compared_and_no_others(named: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["report", *named, "-o", "x.html"])
    assert isinstance(done.exception, InputError)
    assert complaint in str(done.exception)
    assert not Path("x.html").exists()


@pytest.mark.usefixtures("folder")
def test_the_page_of_one_batch_says_its_model_first_and_what_its_samples_are() -> None:
    words = " ".join(page("cold").text.split())
    assert words.index("model demo") < words.index("Figures")
    assert words.index("from the first attempt to the last") < words.index("Figures")
    assert "done without a second attempt, one of 1" in words
    assert "incomplete, one of 1" in words
    # a curve of one point is no chart
    assert "Decoding speed by context length" not in words


def test_the_models_own_sampling_defaults_count_as_settings_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MH_BATCH_DB", raising=False)
    db = open_store(Path("mh-batch.db"))
    own = replace(model(), defaults={"temperature": 0.25, "top_k": 7})
    for name, settings in (("its own", {}), ("ours", {"defaults": "mh-batch"})):
        given = tuple(settings)
        submit(db, JOBS[:1], name, settings=apply(Settings(), settings), given=given)
        run_id = start(db)
        job = queue.claim(db, run_id, own, "demo")
        assert job is not None
        queue.record(db, job.id, run_id, attempt(), turn(), DONE)
    db.close()
    found = page("1", "2").text
    assert "temperature0.251.0" in found
    assert "top_k70" in found
    assert "its own sampling defaults: temperature 0.25, top_k 7" in page("1").text
    assert "its own sampling defaults" not in page("2").text
