"""The program as a library: what a notebook or a script calls."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import time
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from typer.main import get_command

import mh_batch
import mh_batch.store
import mh_batch.worker
from helpers.command_line import rows
from mh_batch.jobs.errors import (
    AlreadySubmitted,
    BadLines,
    InputError,
    SettingsError,
    StoreUnusable,
    UnknownTarget,
)
from mh_batch.jobs.settings import EngineOptions
from mh_batch.jobs.status import Status
from mh_batch.store import open_reader, open_store
from mh_batch.worker import Options, Summary, drain, results, submit
from mh_batch.worker.api import draining
from mh_batch.worker.api.lines import Conversation
from mh_batch.worker.cli import app
from mh_batch.worker.draining.reporter import Tally
from mh_batch.worker.draining.run import Outcome
from mh_batch.worker.options import DrainOptions, WorkerOptions
from mh_batch.worker.progress.plain_display import PlainDisplay
from mh_batch.worker.runtime.stop import EndReason

CONVERSATIONS: list[Conversation] = [
    "What is 17 + 25?",
    {"custom_id": "talk", "turns": ["What is 12 + 9?", "Now add 5."], "topic": "follow-up"},
    {"custom_id": "long", "prompt": "word " * 600, "max_context_tokens": 256},
]


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in a folder of its own, with the conversations queued."""
    path = tmp_path_factory.mktemp("api") / "api.db"
    assert submit(path, CONVERSATIONS, settings={"temperature": 0}).jobs == 3
    return path


@pytest.fixture(scope="module")
def summary(db: Path) -> Summary:
    """A drain as a notebook does it: on a thread whose loop is running."""

    async def cell() -> Summary:
        return drain(str(db), model="demo", options=Options(artifacts="off", quiet=True))

    return asyncio.run(cell())


def test_a_drain_inside_a_running_loop_comes_back_with_how_it_went(
    db: Path, summary: Summary
) -> None:
    assert summary.reason is EndReason.EMPTY
    assert summary.ended == {Status.DONE: 2, Status.FAILED: 1}
    assert summary.batches == (1,)
    assert not summary.all_well
    with closing(open_reader(db)) as reader:
        sums = "select sum(completion_tokens), sum(length(tokens)) / 4 from attempts"
        assert [*next(reader.query(sums)).values()] == [summary.tokens] * 2
    assert summary.tokens_per_second is not None
    assert summary.seconds > 0


@pytest.mark.usefixtures("summary")
def test_results_are_structs_in_input_order(db: Path) -> None:
    one, talk, long = results(db)
    assert one.custom_id == "line-1"
    assert one.final == "17 + 25 = 42"
    assert [turn.final for turn in talk.turns] == ["12 + 9 = 21", "21 + 5 = 26"]
    assert talk.final == "21 + 5 = 26"
    assert talk.metadata is not None
    assert msgspec.json.decode(talk.metadata) == {"topic": "follow-up"}
    assert (long.status, long.error_code, long.final) == ("failed", "prompt_too_long", None)


@pytest.mark.usefixtures("summary")
def test_results_are_of_the_batch_and_the_statuses_that_are_asked_for(db: Path) -> None:
    assert [job.custom_id for job in results(db, 1, ["failed"])] == ["long"]
    assert [job.custom_id for job in results(db, "python", {Status.DONE})] == ["line-1", "talk"]


@pytest.mark.usefixtures("summary")
def test_what_results_cannot_give_is_told_before_the_first_of_them(db: Path) -> None:
    with pytest.raises(UnknownTarget, match="no batch 'nowhere'"):
        results(db, "nowhere")
    with pytest.raises(InputError, match="queued"):
        results(db, statuses=["queued"])


def test_rescued_answers_are_in_the_summary_and_can_be_left_out_of_the_results(
    tmp_path: Path,
) -> None:
    db = tmp_path / "rescued.db"
    lines: list[Conversation] = [
        {
            "custom_id": "rivers",
            "prompt": "Think for a long time about rivers.",
            "max_tokens": 12,
            "max_attempts": 2,
        },
        {"custom_id": "sum", "prompt": "What is 17 + 25?"},
    ]
    submit(db, lines, settings={"temperature": 0})
    summary = drain(db, model="demo", options=Options(artifacts="off", quiet=True))
    assert (summary.ended, summary.rescued, summary.all_well) == ({Status.DONE: 2}, 1, True)
    assert [(job.custom_id, job.rescued) for job in results(db)] == [
        ("rivers", True),
        ("sum", False),
    ]
    assert [job.custom_id for job in results(db, rescued="drop")] == ["sum"]
    assert [job.custom_id for job in results(db, rescued="only")] == ["rivers"]
    with pytest.raises(InputError, match="keep, drop, only"):
        results(db, rescued="none")  # type: ignore[arg-type]


@pytest.mark.usefixtures("summary")
def test_a_reader_answers_sql_with_rows_by_name(db: Path) -> None:
    reader = open_reader(db)
    assert next(reader.query("select final from results")) == {"final": "17 + 25 = 42"}
    reader.close()


@pytest.mark.usefixtures("summary")
def test_options_decide_about_the_files_beside_the_database(db: Path) -> None:
    assert [path.name for path in (db.parent / "logs").iterdir()] == ["worker.log"]


def work_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: Options, adapter: str | None = None
) -> DrainOptions:
    """The options of a drain that is called with these."""
    seen: list[DrainOptions] = []

    async def see(options: DrainOptions, *_: object, **__: object) -> Outcome:
        seen.append(options)
        return Outcome(EndReason.EMPTY, Tally(), run_id=1, seconds=0.0)

    monkeypatch.setattr(draining, "work_until_stopped", see)
    open_store(folder / "mh-batch.db").close()
    drain(folder / "mh-batch.db", model="demo", options=options, adapter=adapter)
    (passed,) = seen
    return passed


def test_every_option_of_a_drain_reaches_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "parallel": 4,
        "mix": True,
        "engine": EngineOptions(kv_bytes=1 << 30, prefix_cache_bytes=0),
        "artifacts": "retries",
        "recycle_bytes": 1 << 30,
        "hang_seconds": 60.0,
        "max_crashes": 5,
        "max_jobs": 7,
        "until": time(7, 30),
        "watch": True,
        "allow_variance": True,
        "accept": "check.py:good",
        "accept_seconds": 5.0,
    }
    # none is left out here, and none of those that the worker has
    assert given.keys() == set(WorkerOptions.__struct_fields__)
    assert set(DrainOptions.__struct_fields__) - given.keys() == {"db", "model", "logs"}
    found = work_of(tmp_path, monkeypatch, Options(logs=tmp_path / "elsewhere", **given))
    assert {name: getattr(found, name) for name in given} == given
    assert found.logs == tmp_path / "elsewhere"


def test_without_options_the_worker_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = work_of(tmp_path, monkeypatch, Options())
    assert found == DrainOptions(tmp_path / "mh-batch.db", "demo", tmp_path / "logs")


def test_options_say_whatever_the_command_can() -> None:
    command = get_command(app).commands["work"]  # type: ignore[attr-defined]
    elsewhere = {
        "db",
        "model",
        "adapter",
        "allow_sleep",
        "notify",
        *EngineOptions.__struct_fields__,
    }
    names = {param.name for param in command.params} - elsewhere
    assert names <= set(Options.__struct_fields__)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hang_seconds": 0}, "hang_seconds"),
        ({"max_crashes": "two"}, "max_crashes"),
        ({"artifacts": "some"}, "artifacts"),
        ({"until": "half past seven"}, "until"),
        ({"engine": EngineOptions(prefix_cache_bytes=-1)}, "engine.prefix_cache_bytes"),
    ],
)
def test_an_option_out_of_range_is_named(wrong: dict[str, Any], told: str, tmp_path: Path) -> None:
    open_store(tmp_path / "mh-batch.db").close()
    with pytest.raises(InputError, match=f"options: {told}: Expected|options: {told}: Invalid"):
        drain(tmp_path / "mh-batch.db", options=Options(**wrong))


def test_a_function_for_answers_is_taken_by_its_file_or_itself_and_stands_with_the_run(
    tmp_path: Path,
) -> None:
    db, file = tmp_path / "accept.db", tmp_path / "check.py"
    open_store(db).close()
    file.write_text("def good(job, answer): ...\n")
    quiet = Options(quiet=True)
    by_name = msgspec.structs.replace(quiet, accept=f"{file}:good")
    assert drain(db, options=by_name).all_well
    assert drain(db, options=quiet, accept=lambda _job, _answer: None).all_well
    with pytest.raises(InputError, match=r"must take a job and an answer"):
        drain(db, options=quiet, accept=lambda: None)  # type: ignore[arg-type,misc]
    with pytest.raises(
        InputError, match=r"check\.py:bad: AttributeError: there is no function bad"
    ):
        drain(db, options=quiet, accept=f"{file}:bad")
    with closing(open_reader(db)) as reader:
        names = [msgspec.json.decode(row["accept"])["name"] for row in reader["runs"].rows]
    assert names[0] == "check.py:good"
    assert "<lambda>" in names[1]
    assert len(names) == 2


def test_a_drain_of_nothing_is_well_and_needs_no_model(tmp_path: Path) -> None:
    open_store(tmp_path / "empty.db").close()
    summary = drain(tmp_path / "empty.db", options=Options(quiet=True))
    assert summary.all_well
    assert (summary.ended, summary.tokens, summary.tokens_per_second) == ({}, 0, None)


def test_a_drain_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no database"):
        drain(tmp_path / "mistyped.db", model="demo")
    assert not list(tmp_path.iterdir())


def test_a_file_is_submitted_under_its_name_and_lines_under_the_name_given(tmp_path: Path) -> None:
    (tmp_path / "convos.jsonl").write_text('{"prompt": "Hello"}\n')
    db = tmp_path / "mh-batch.db"
    submit(db, tmp_path / "convos.jsonl")
    submit(db, iter(["Good morning"]), name="greetings", profile="steady")
    reader = open_reader(db)
    named = "select name, json_extract(settings, '$.sampling.max_tokens') as tokens from batches"
    assert list(reader.query(named)) == [
        {"name": "convos", "tokens": 4096},
        {"name": "greetings", "tokens": 1024},
    ]
    reader.close()


def test_a_table_is_submitted_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "sums.csv").write_text("prompt,answer\nWhat is 1 + 1?,2\n")
    submitted = submit(tmp_path / "a.db", tmp_path / "sums.csv")
    reader = open_reader(tmp_path / "a.db")
    found = list(reader.query("select custom_id, metadata from jobs"))
    reader.close()
    assert (submitted.jobs, found) == (1, [{"custom_id": "line-2", "metadata": '{"answer":"2"}'}])


def test_one_mapping_is_one_conversation(tmp_path: Path) -> None:
    assert submit(tmp_path / "one.db", {"prompt": "Hello", "topic": "greeting"}).jobs == 1


def test_the_same_lines_are_a_second_batch_only_when_told_so(tmp_path: Path) -> None:
    db = tmp_path / "mh-batch.db"
    submit(db, ["Hello"])
    with pytest.raises(AlreadySubmitted, match=r"; again=True submits it once more$"):
        submit(db, ["Hello"])
    assert submit(db, ["Hello"], again=True).batch_id == 2


def test_what_cannot_be_a_job_is_named_and_nothing_lands(tmp_path: Path) -> None:
    db = tmp_path / "mh-batch.db"
    with pytest.raises(InputError, match="python:2: prompt: cannot be JSON"):
        submit(db, ["Hello", {"prompt": object()}])
    with pytest.raises(BadLines, match=r"python:1: temprature: .* temperature\?"):
        submit(db, [{"prompt": "Hello", "temprature": 1}])
    with pytest.raises(SettingsError, match="max_token"):
        submit(db, ["Hello"], settings={"max_token": 5})
    assert submit(db, ["Hello"]).batch_id == 1


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_asks_the_drain_to_stop_and_a_second_one_to_do_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    async def stopped_twice(
        _: DrainOptions, __: PlainDisplay, stop_signals: AsyncIterator[object], **___: object
    ) -> Outcome:
        with anyio.fail_after(30):
            for _again in range(2):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                heard.append(await anext(stop_signals))
        return Outcome(EndReason.KILLED, Tally(), run_id=1, seconds=0.0)

    monkeypatch.setattr(draining, "work_until_stopped", stopped_twice)
    open_store(tmp_path / "mh-batch.db").close()
    summary = drain(tmp_path / "mh-batch.db")
    assert len(heard) == 2
    assert summary.reason is EndReason.KILLED
    assert not summary.all_well


@pytest.mark.parametrize("package", [mh_batch, mh_batch.worker, mh_batch.store])
def test_no_module_takes_the_name_of_a_function_of_the_library(package: object) -> None:
    folder = Path(getattr(package, "__file__", "")).parent
    names = getattr(package, "__all__", ())
    assert names
    for name in names:
        # an imported submodule would replace what is exported under its name
        assert not (folder / f"{name}.py").exists()
        assert callable(getattr(package, name)) or name == "__version__"
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = package.nothing_of_ours  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", [mh_batch, mh_batch.worker, mh_batch.store])
def test_dir_lists_what_is_imported_when_it_is_first_asked_for(package: object) -> None:
    assert {"__doc__", *getattr(package, "__all__", ())} <= set(dir(package))


def test_the_packages_import_nothing_heavy_until_something_is_asked_for() -> None:
    heavy = {"anyio", "rich", "mlx", "mlx_lm", "openai_harmony", "numpy", "pandas"}
    # every module of the store needs it, and it is imported there without pandas
    alone = {"msgspec", "sqlite_utils", "mh_batch.worker", "mh_batch.jobs"}
    for package, late in (
        ("mh_batch", heavy | alone),
        ("mh_batch.worker", heavy | {"sqlite_utils"}),
        ("mh_batch.store", heavy),
    ):
        code = f"import sys, {package}; sys.exit(bool({late!r} & set(sys.modules)))"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unknown_keys_of_a_body_are_errors_or_are_left_out_and_counted(tmp_path: Path) -> None:
    line = {"body": {"messages": [{"role": "user", "content": "Hi"}], "provider": 1}}
    with pytest.raises(BadLines, match=r"body\.provider: unknown; ignore_unknown=True leaves"):
        submit(tmp_path / "a.db", [line])
    assert submit(tmp_path / "a.db", [line], ignore_unknown=True).ignored == {"provider": 1}


def test_the_settings_that_a_call_gives_are_known_as_given(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    submit(path, ["Hi"], settings={"temperature": 1.0}, profile="steady")
    with closing(open_reader(path)) as db:
        ((given,),) = db.conn.execute("SELECT settings_given FROM batches")
    assert msgspec.json.decode(given) == [
        "history_tokens",
        "max_kv_size",
        "max_tokens",
        "temperature",
    ]


def test_an_adapter_is_named_beside_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "night1"
    folder.mkdir()
    submitted = submit(tmp_path / "mh-batch.db", ["Hi"], model="demo", adapter=folder)
    assert submitted.warning is None
    named = rows(tmp_path, "select model from batches")
    assert named == [(f"demo//{folder}",)]
    monkeypatch.chdir(tmp_path)
    found = work_of(tmp_path, monkeypatch, Options(), adapter="night1")
    assert found.model == f"demo//{folder}"
    with pytest.raises(InputError, match="adapter=: for which model"):
        drain(tmp_path / "mh-batch.db", adapter=folder)
