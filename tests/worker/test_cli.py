"""The command line by itself: mistyped commands, completion, and commands that need no drain."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.command_line import mh_batch, mh_batch_process
from mh_batch.worker.cli import app


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sumbit", "x.jsonl"], "submit"),
        (["resuls"], "results"),
        (["work", "--modle", "demo"], "--model"),
        (["status", "--jsn"], "--json"),
        (["submit", "x.jsonl", "--set", "max_token=5"], "max_tokens"),
    ],
)
def test_what_was_mistyped_is_told_with_what_was_meant(
    tmp_path: Path, arguments: list[str], meant: str
) -> None:
    last = mh_batch(tmp_path, *arguments, code=2).stderr.splitlines()[-1]
    assert meant in last


def test_shell_completion_completes_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        env = {"_MH_BATCH_COMPLETE": "complete_bash", "COMP_WORDS": words}
        env["COMP_CWORD"] = str(len(words.split()) - 1)
        return mh_batch(tmp_path, env=env).stdout.split()

    assert completed("mh-batch su") == ["submit"]
    assert "--watch" in completed("mh-batch status --w")


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_IMPORT"]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["--help"]),
        ("mh_batch.worker.commands.work", ["status"]),
        ("sqlite_utils", ["query", "select 1"]),
        ("mh_batch.worker.submission.submission", ["submit", "in.jsonl"]),
        ("anyio", ["work", "--model", "demo"]),
    ],
)
def test_ctrl_c_while_modules_are_imported_ends_without_a_traceback(
    tmp_path: Path, module: str, arguments: list[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "hi"}\n')
    mh_batch(tmp_path, "submit", "in.jsonl", "--name", "other")
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_IMPORT)
    env = {"PYTHONPATH": str(tmp_path), "INTERRUPTED_IMPORT": module}
    done = mh_batch_process(tmp_path, *arguments, code=130, env=env)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_check_needs_no_database_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "hi"}\n')
    done = mh_batch(tmp_path, "submit", "in.jsonl", "--check", env={"MH_BATCH_MODEL": "demo"})
    assert "1 line checked, nothing was queued" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    (tmp_path / "mh-batch.toml").write_text('model = "demo"')
    tight = mh_batch(
        tmp_path, "submit", "in.jsonl", "--check", "--set", "max_context_tokens=20", code=1
    )
    assert "in.jsonl:1: " in tight.stdout


def test_a_check_without_a_model_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "hi"}\n')
    assert "--model" in mh_batch(tmp_path, "submit", "in.jsonl", "--check", code=3).stderr


def test_the_doctor_answers_people_and_programs(tmp_path: Path) -> None:
    *told, conclusion = mh_batch(tmp_path, "doctor", "--model", "demo").stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warning") for line in told if line[0] != " ")
    # MLX's wheel for Linux has a BLAS that is worth a warning
    assert conclusion == "all is well" or conclusion.endswith(("1 warning", " warnings"))
    (tmp_path / "mh-batch.db").write_text("not a database")
    findings = json.loads(mh_batch(tmp_path, "doctor", "--json", code=3).stdout)
    assert {"subject", "verdict", "text", "cure"} == findings[0].keys()
    assert list(tmp_path.iterdir()) == [tmp_path / "mh-batch.db"]


def test_watching_cannot_be_json(tmp_path: Path) -> None:
    assert "choose one" in mh_batch(tmp_path, "status", "--watch", "--json", code=2).stderr


def test_what_lines_and_names_hold_cannot_steer_the_terminal(tmp_path: Path) -> None:
    steers = "\x1b]0;x\x07"
    bad = {"messages": [{"role": steers, "content": "x"}]}
    (tmp_path / "bad.jsonl").write_text(json.dumps(bad))
    (tmp_path / "ok.jsonl").write_text('{"prompt": "hi"}\n')
    told = [
        mh_batch(tmp_path, "submit", "bad.jsonl", code=2).stderr,
        mh_batch(tmp_path, "submit", "ok.jsonl", "--name", steers).stderr,
        mh_batch(tmp_path, "timings", steers).stdout,
        mh_batch(tmp_path, "reparse", steers).stdout,
        mh_batch(tmp_path, "cancel", steers).stderr,
    ]
    assert all("\x1b" not in text and r"\x1b" in text for text in told), told


def test_a_damaged_page_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "hi"}\n')
    (tmp_path / "more.jsonl").write_text('{"prompt": "more"}\n')
    mh_batch(tmp_path, "submit", "in.jsonl")
    path = tmp_path / "mh-batch.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    for arguments in (["submit", "more.jsonl"], ["cancel", "1"]):
        told = mh_batch(tmp_path, *arguments, code=3).stderr
        assert "damaged" in told
        assert "Traceback" not in told


def test_the_summary_of_every_command_is_whole_on_80_columns() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    commands = shown.partition("Commands:\n")[2].splitlines()
    assert len(commands) == len(app.registered_commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)
