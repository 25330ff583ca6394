"""The doctor: each thing a night needs, found well and found wanting."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from helpers.store_samples import claim, line, lines, start, submit
from mh_batch.engine.demo import DEMO_MODEL
from mh_batch.engine.harmony.vocabulary import BASE_VARIABLE
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings
from mh_batch.store.connection import open_store
from mh_batch.store.lock import worker_lock
from mh_batch.store.queue.submit import Submission
from mh_batch.worker.doctor import database as database_checks
from mh_batch.worker.doctor.database import database
from mh_batch.worker.doctor.deaths import deaths, judge_deaths, judge_display
from mh_batch.worker.doctor.examine import CHECKS, conclusion, examine, exit_code
from mh_batch.worker.doctor.finding import Finding, Severity, Site, failure, ok, warning
from mh_batch.worker.doctor.machine import judge_device, judge_space, space, versions
from mh_batch.worker.doctor.model import judge_memory, model, vocabulary
from mh_batch.worker.doctor.queued import queued_models
from mh_batch.worker.text.format import GIB

OK, WARNING, FAILURE = Severity


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "mh-batch.db", tmp_path / "logs", "demo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a good model, to be broken."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(DEMO_MODEL / name, folder)
    return folder


def about(subject: str, findings: list[Finding]) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def of_model(site: Site, folder: Path) -> Finding:
    site = Site(site.db, site.logs, str(folder))
    return about("model", list(model(site)))


def test_a_machine_that_is_ready_is_told_so(site: Site) -> None:
    findings = list(examine(site))
    assert {f.subject for f in findings} >= {"versions", "device", "vocabulary", "model", "disk"}
    assert exit_code(findings) == 0
    assert all(finding.cure is None for finding in findings if finding.verdict is OK)
    assert "mlx-lm" in about("versions", findings).text
    assert about("device", findings).verdict is OK


def test_a_failure_is_exit_code_3_and_a_warning_is_not() -> None:
    well, odd, bad = ok("a", "fine"), warning("b", "odd", "do"), failure("c", "bad", "do")
    assert [exit_code([well]), exit_code([well, odd]), exit_code([odd, bad])] == [0, 0, 3]
    assert conclusion([well]) == "all is well"
    assert conclusion([odd, bad, bad]) == "2 failures, 1 warning"
    assert json.loads(msgspec.json.encode([odd])) == [
        {"subject": "b", "verdict": "warning", "text": "odd", "cure": "do"}
    ]


def test_what_is_not_installed_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mh_batch.worker.doctor.machine.PACKAGES", ("no-such-package",))
    first, *_ = versions(site)
    assert (first.verdict, first.cure) == (FAILURE, "pip install no-such-package")


@pytest.mark.parametrize(
    ("system", "code", "answer", "verdict"),
    [
        ("linux", 0, "cpu: x", OK),
        ("darwin", 0, "gpu: Apple M3", OK),
        ("darwin", 0, "cpu: x", WARNING),
        ("darwin", -6, "", FAILURE),
    ],
)
def test_a_device_that_aborts_is_a_failure_and_a_mac_without_metal_a_warning(
    system: str, code: int, answer: str, verdict: Severity
) -> None:
    assert judge_device(system, code, answer, "a\nlast words\n").verdict is verdict


@pytest.mark.parametrize(
    ("free", "verdict"), [(100 * GIB, OK), (GIB, WARNING), (GIB // 100, FAILURE)]
)
def test_little_disk_space_is_told_before_the_night(free: int, verdict: Severity) -> None:
    assert judge_space("logs", free).verdict is verdict


def test_the_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(site: Site) -> None:
    assert len(list(space(site))) == 2


@pytest.mark.parametrize(
    ("weights", "verdict"), [(4 * GIB, OK), (9 * GIB, WARNING), (20 * GIB, FAILURE)]
)
def test_weights_are_compared_with_the_memory(weights: int, verdict: Severity) -> None:
    assert judge_memory(weights, total=16 * GIB, available=8 * GIB).verdict is verdict


def test_a_vocabulary_of_another_content_is_a_failure(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o200k_base.tiktoken").write_text("another")
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path))
    (found,) = vocabulary(site)
    assert found.verdict is FAILURE
    assert BASE_VARIABLE in (found.cure or "")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("demo", True),
        ("somebody/gpt-oss-20b-MXFP4-Q8", True),
        ("somebody/a-llama", False),
        (None, False),
    ],
)
def test_a_vocabulary_is_shown_where_the_model_uses_one(
    site: Site, name: str | None, shown: bool
) -> None:
    assert bool([*vocabulary(Site(site.db, site.logs, name))]) is shown


def test_a_model_of_another_kind_shows_no_vocabulary(site: Site, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert [*vocabulary(Site(site.db, site.logs, str(folder)))] == []
    (folder / "config.json").write_text("{")
    assert [*vocabulary(Site(site.db, site.logs, str(folder)))] == []


def test_without_a_model_the_ways_to_name_one_are_told(site: Site) -> None:
    found = about("model", list(model(Site(site.db, site.logs, None))))
    assert found.verdict is WARNING
    assert "--model" in (found.cure or "")


def test_a_whole_model_is_told_with_its_size(site: Site, folder: Path) -> None:
    found = of_model(site, folder)
    assert found.verdict is OK
    assert "gpt_oss" in found.text


def test_a_download_that_broke_off_is_a_failure(site: Site, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cut off" in of_model(site, folder).text
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = of_model(site, folder)
    assert found.verdict is FAILURE
    assert "model-00002-of-00002.safetensors" in found.text
    (folder / "config.json").unlink()
    assert "no config.json" in of_model(site, folder).text


def test_a_model_of_another_family_needs_its_tokeniser(site: Site, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    assert "no tokeniser" in of_model(site, folder).text
    (folder / "tokenizer.json").write_text("{}")
    assert of_model(site, folder).verdict is OK


def test_a_name_that_is_no_model_and_a_hub_name_that_is_not_here(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert of_model(site, Path("./nowhere")).verdict is FAILURE
    assert of_model(site, Path("someone/a-model")).verdict is WARNING


def test_no_database_yet_is_no_fault(site: Site) -> None:
    (found,) = database(site)
    assert (found.subject, found.verdict) == ("database", OK)


def test_a_sound_database_without_a_worker(site: Site) -> None:
    open_store(site.db).close()
    findings = list(database(site))
    assert [finding.verdict for finding in findings] == [OK, OK]
    assert "integrity_check" in findings[0].text


def test_a_large_database_is_checked_the_quick_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(site.db).close()
    monkeypatch.setattr(database_checks, "LARGE", 1)
    assert "quick_check" in next(database(site)).text


def test_a_file_that_is_no_database_is_a_failure_with_a_cure(site: Site) -> None:
    site.db.write_bytes(b"not a database" * 100)
    (found,) = database(site)
    assert found.verdict is FAILURE
    assert "--db" in (found.cure or "")


def test_a_database_with_a_torn_page_is_a_failure(site: Site) -> None:
    with closing(open_store(site.db)) as db:
        submit(db, lines(2000))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with site.db.open("r+b") as file:
        file.seek(site.db.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    assert next(database(site)).verdict is FAILURE


def test_a_row_that_refers_to_nothing_is_a_failure(site: Site) -> None:
    open_store(site.db).close()
    with closing(sqlite3.connect(site.db)) as raw:
        raw.execute("INSERT INTO batch_models (batch_id, model, fingerprint) VALUES (99, 'm', 'f')")
        raw.commit()
    found = next(database(site))
    assert found.verdict is FAILURE
    assert "batch_models" in found.text


def test_a_running_worker_is_named_and_jobs_a_dead_one_left_are_counted(site: Site) -> None:
    with closing(open_store(site.db)) as db:
        submit(db, lines(2))
        claim(db, start(db))
        left = about("worker", list(database(site)))
        assert left.verdict is WARNING
        assert "1 job still marked as running" in left.text
        with worker_lock(site.db):
            assert about("worker", list(database(site))).verdict is OK


def test_a_batch_that_is_not_whole_is_told(site: Site) -> None:
    batch = NewBatch("night", "night.jsonl", Settings())
    with closing(open_store(site.db)) as db, Submission.begin(db, batch):
        assert about("submit", list(database(site))).verdict is WARNING


def test_the_models_of_queued_jobs_are_looked_for(site: Site) -> None:
    named = [
        line(1, model="gpt-4o-mini"),
        line(2, model="gpt-4o-mini"),
        line(3),
        line(4, model="a/b"),
        line(5, model="demo//nowhere"),
    ]
    with closing(open_store(site.db)) as db:
        submit(db, named)
        one, two, three, four = queued_models(site)
        assert four.verdict is FAILURE
        assert "1 queued job of demo//nowhere: demo//nowhere: no such adapter folder" in four.text
        assert "mlx_lm.lora" in (four.cure or "")
        assert [one.verdict, two.verdict, three.verdict] == [FAILURE, OK, WARNING]
        assert one.text.startswith("2 queued jobs of gpt-4o-mini: gpt-4o-mini: no such folder")
        assert one.cure is not None
        assert "--override-model" in one.cure
        assert two.text == "1 queued job of demo"
    (nameless,) = (
        f for f in queued_models(msgspec.structs.replace(site, model=None)) if "no model" in f.text
    )
    assert nameless.verdict is WARNING


def test_deaths_on_metal_are_told_with_their_cure_and_others_with_where_to_look() -> None:
    display = "[METAL] ... (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
    memory = "[METAL] ... (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
    (none,) = judge_deaths([])
    assert none.verdict is OK
    shown, short, other = judge_deaths([display, memory, display, "last words"])
    assert {f.verdict for f in (shown, short, other)} == {WARNING}
    assert "2 times in the latest run: macOS ends long GPU work while" in shown.text
    assert "let the display sleep" in (shown.cure or "")
    assert "close other programs" in (short.cure or "")
    assert "--recipe crashes" in (other.cure or "")


def test_only_the_latest_run_is_asked_for_deaths(night: Path) -> None:
    def told() -> str:
        return about("deaths", list(deaths(Site(night / "mh-batch.db", night, "demo")))).text

    assert "died 1 time" in told()
    with closing(sqlite3.connect(night / "mh-batch.db")) as db:
        db.execute("INSERT INTO runs (started_at, settings, versions) VALUES ('2030', '{}', '{}')")
        db.commit()
        assert "did not die" in told()
        db.execute("DELETE FROM runs WHERE started_at = '2030'")
        db.commit()


def test_on_a_mac_it_is_told_that_the_display_sleeps_on_purpose() -> None:
    assert list(judge_display("linux")) == []
    (found,) = judge_display("darwin")
    assert (found.subject, found.verdict) == ("display", OK)
    assert "lets its display sleep" in found.text


def test_every_check_says_something(site: Site) -> None:
    for check in CHECKS:
        assert list(check(site))
