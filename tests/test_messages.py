"""The tables of the troubleshooting page are true: each message and each death of Metal."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from helpers.adapters import write_adapter
from helpers.command_line import mh_batch, rows
from helpers.documents import first_cells, section
from helpers.native_model import native_model
from helpers.small_models import CHATML
from mh_batch.engine.model.load import load
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.store.connection import open_store
from mh_batch.store.lock import worker_lock
from mh_batch.store.selftests import record_selftest
from mh_batch.worker.model_process import metal
from mh_batch.worker.model_process.death import MOST_WATCHDOG_DEATHS
from mh_batch.worker.slots_key import selftest_key

PAGE = "docs/troubleshooting.md"
SHORT = '{"prompt": "Hi", "max_tokens": 4, "max_attempts": 1}\n'
ONE = '{"prompt": "Hi"}\n'


def held(folder: Path) -> str:
    mh_batch(folder, "submit", "in.jsonl")
    with worker_lock(folder / "mh-batch.db"):
        return mh_batch(folder, "work", "--model", "demo", code=3).stderr


def changed(folder: Path) -> str:
    mh_batch(folder, "submit", "in.jsonl")
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db, db:
        db.execute(
            "INSERT INTO batch_models (batch_id, model, fingerprint) VALUES (1, 'demo', 'other')"
        )
    return mh_batch(folder, "work", "--model", "demo", code=3).stderr


def refused(folder: Path) -> str:
    """Let a model pass the self-test, and have it on record that it failed."""
    model = str(native_model(folder / "model", CHATML))
    (folder / "in.jsonl").write_text('{"prompt": "Hi", "max_tokens": 2, "max_attempts": 1}\n')
    mh_batch(folder, "submit", "in.jsonl")
    working = ("work", "--model", model, "--parallel", "2")
    mh_batch(folder, *working, code=None)
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db, db:
        assert db.execute("UPDATE selftests SET passed = 0, failed = 'row 2'").rowcount == 1
    mh_batch(folder, "submit", "in.jsonl", "--again")
    return mh_batch(folder, *working, code=3).stderr


def misfit(folder: Path) -> str:
    """Name another model than the one that an adapter was trained on."""
    model = str(native_model(folder / "model", CHATML))
    write_adapter(folder / "adapter", model)
    mh_batch(folder, "submit", "in.jsonl")
    done = mh_batch(folder, "work", "--model", "demo", "--adapter", "adapter", code=3)
    assert rows(folder, "select status from jobs") == [("queued",)]
    return done.stderr


def foreign(folder: Path) -> str:
    (folder / "mh-batch.db").write_text("something else")
    return mh_batch(folder, "status", code=3).stderr


def linked(folder: Path) -> str:
    mh_batch(folder, "submit", "in.jsonl")
    (folder / "logs" / "1").mkdir(parents=True)
    (folder / "logs" / "1" / "1").symlink_to(folder)
    return mh_batch(folder, "work", "--model", "demo", code=3).stderr


def misspelled(folder: Path) -> str:
    (folder / "mh-batch.toml").write_text('modle = "demo"\n')
    return mh_batch(folder, "submit", "in.jsonl", code=2).stderr


def submitting(line: str) -> Callable[[Path], str]:
    """Submit one line that is refused."""

    def submit(folder: Path) -> str:
        (folder / "in.jsonl").write_text(line)
        return mh_batch(folder, "submit", "in.jsonl", code=2).stderr

    return submit


def running(*arguments: str, code: int, line: str = ONE) -> Callable[[Path], str]:
    """Submit a line and run a command that does not go well."""

    def run(folder: Path) -> str:
        (folder / "in.jsonl").write_text(line)
        mh_batch(folder, "submit", "in.jsonl")
        return mh_batch(folder, *arguments, code=code).stderr

    return run


def began_with_one(folder: Path) -> str:
    """Ask for more slots than run on the same kernels; their test is on record as failed."""
    (folder / "in.jsonl").write_text(2 * SHORT)
    mh_batch(folder, "submit", "in.jsonl")
    mh_batch(folder, "work", "--model", "demo", "--max-jobs", "1", code=1)
    failed = SelftestVerdict(passed=False, failed="row 2")
    with closing(open_store(folder / "mh-batch.db")) as store:
        record_selftest(store, selftest_key(load("demo").info, 64), "demo", failed)
    return mh_batch(folder, "work", "--model", "demo", "--parallel", "64", code=1).stderr


def died_of(last_words: str) -> Callable[[Path], str]:
    """Have the doctor look at a database whose latest run saw such a death."""

    def examine(folder: Path) -> str:
        mh_batch(folder, "submit", "in.jsonl")
        with closing(sqlite3.connect(folder / "mh-batch.db")) as db, db:
            db.execute("INSERT INTO runs (started_at, settings, versions) VALUES ('', '{}', '{}')")
            db.execute(
                "INSERT INTO crashes (job_id, choice, turn, step, attempt, run_id, at, phase, "
                "signal, stderr_tail) VALUES (1, 0, 1, 0, 1, 1, '', 'decode', 6, ?)",
                (last_words,),
            )
        return " ".join(mh_batch(folder, "doctor", "--model", "demo").stdout.split())

    return examine


LONG = '{{"prompt": "{}", "max_context_tokens": 256}}\n'.format("word " * 600)
FORMED = '{"body": {"messages": [{"role": "user", "content": "x"}], "guided_json": {}}}\n'
CAUSES: dict[str, Callable[[Path], str]] = {
    "no database at mh-batch.db": lambda folder: mh_batch(folder, "status", code=3).stderr,
    "names no model; name one with --model": running("work", code=3),
    "no such folder (a hub name looks like": running(
        "work", "--model", "demo", code=3, line='{"prompt": "Hi", "model": "gpt-4o-mini"}\n'
    ),
    "no such adapter folder": running(*("work", "--model", "demo", "--adapter", "nowhere"), code=3),
    "its adapter does not fit the model": misfit,
    "already submitted as batch 1": running("submit", "in.jsonl", code=2),
    "temprature: unknown; did you mean temperature?": submitting(
        '{"prompt": "x", "temprature": 1}'
    ),
    "guided_json: not supported: write structured_outputs": submitting(FORMED),
    "no known shape": submitting('{"text": "x"}'),
    "one object a line is needed": submitting('[{"prompt": "x"}]'),
    "unknown key modle; did you mean model?": misspelled,
    "is at this database; wait for it or stop it": held,
    "not an SQLite database": foreign,
    "bring the first weights back, or submit the file again": changed,
    "(prompt_too_long)": running("work", "--model", "demo", code=1, line=LONG),
    "would overwrite it": running("results", "-o", "mh-batch.db", code=2),
    "a link or a file is in place of a folder of mh-batch": linked,
    "failed the self-test with": refused,
    "macOS ends long GPU work while the display is on": died_of(
        "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
    ),
    "the GPU had too little memory": died_of(
        "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
    ),
    "conversations at once at most": began_with_one,
    "at once and goes on so": began_with_one,
    "a query may only read": running("query", "delete from jobs", code=2),
}


def test_the_messages_of_the_table_are_those_that_are_tried_here() -> None:
    assert first_cells(section(PAGE, "Messages")) == list(CAUSES)


@pytest.mark.parametrize("message", CAUSES)
def test_a_message_of_the_table_is_one_of_the_program(message: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(ONE)
    assert message in CAUSES[message](tmp_path)


def test_the_table_of_deaths_on_metal_is_the_one_of_the_program() -> None:
    table = section(PAGE, "Deaths on Metal")
    assert first_cells(table) == list(metal._SIGNS)
    rows = re.findall(r"^\| `(.+?)` \| (.*?) \| .* \| (\w+).*? \|$", table, flags=re.MULTILINE)
    for sign, cause, counts in rows:
        fault = metal.metal_fault(sign)
        assert fault is not None
        assert cause == fault.message or cause.startswith("the same")
        assert counts == ("no" if fault.by_watchdog else "yes")
    assert f"the {MOST_WATCHDOG_DEATHS + 1}st in a row" in table
