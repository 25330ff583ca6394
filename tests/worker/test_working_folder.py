"""No file of the working folder is ever run: it holds data, whatever it is called."""

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, write_lines

SCRIPT = Path(sys.executable).with_name("mh-batch")
ENTRIES: dict[str, tuple[str, ...]] = {
    "script": (str(SCRIPT),),
    "module": (sys.executable, "-m", "mh_batch.worker.cli"),
}
RUN = "import pathlib, sys\npathlib.Path({mark!r}).open('a').write(__name__ + ' ')\n"
LIMIT = 300
# runs the script with one command after the other, and writes how each ended
DRIVER = """
import json, runpy, sys
script, commands = json.loads(sys.argv[1])
for arguments in commands:
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        print(f"ended: {ended.code or 0} {' '.join(arguments)}", flush=True)
"""
ALONE: list[tuple[str, ...]] = [
    ("--help",),
    ("submit", "convos.jsonl", "--check", "--again", "--model", "demo"),
    ("work", "--model", "demo"),
    ("doctor", "--model", "demo"),
]
# these have one process, whose modules are imported by the first that needs them
TOGETHER: list[tuple[str, ...]] = [
    ("submit", "convos.jsonl", "--again"),
    ("run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo", "--again"),
    ("status",),
    ("status", "1", "--watch"),
    ("results", "--format", "csv"),
    ("show", "1"),
    ("query", "--json", "select * from jobs"),
    ("timings", "--plot", "night.png"),
    ("report", "-o", "night.html"),
    ("cancel", "1"),
    ("retry", "1"),
    ("reparse",),
    ("bench", "--quick", "--rounds", "1", "--only", "submit,queue", "--plot", "b.png"),
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two conversations, and a file under the name of every module there is."""
    folder = tmp_path_factory.mktemp("planted")
    write_lines(folder, [{"prompt": "Hello"}, {"prompt": "Thanks"}])
    mh_batch(folder, "run", "convos.jsonl", "-o", "out.jsonl", "--model", "demo")
    known = {*sys.stdlib_module_names, *packages_distributions()} - {"mh_batch"}
    for name in filter(str.isidentifier, known):
        (folder / f"{name}.py").write_text(RUN.format(mark=str(folder / "ran")))
    for name in ("mlx", "numpy"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(RUN.format(mark=str(folder / "ran")))
    return folder


def ran(folder: Path) -> set[str]:
    """The modules of the folder that were run since the last look."""
    mark = folder / "ran"
    names = set(mark.read_text().split()) if mark.exists() else set()
    mark.unlink(missing_ok=True)
    return names


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MH_BATCH", "PYTHON"))},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("arguments", ALONE, ids=lambda words: " ".join(words)[:40])
def test_no_module_of_the_working_folder_is_run(planted: Path, arguments: tuple[str, ...]) -> None:
    done = run(planted, *ENTRIES["script"], *arguments)
    assert ran(planted) == set()
    assert done.returncode in (0, 1), done.stderr


def test_nor_by_many_commands_one_after_the_other(planted: Path, tmp_path: Path) -> None:
    # in a folder of its own, as the script is: what is passed with -c has the working folder's
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    done = run(planted, sys.executable, str(driver), json.dumps([str(SCRIPT), TOGETHER]))
    assert ran(planted) == set()
    codes = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("ended: ")]
    assert len(codes) == len(TOGETHER), done.stderr
    assert set(codes) <= {"0", "1"}, done.stdout + done.stderr


def test_what_the_folder_holds_would_be_run_where_it_is_on_the_path(planted: Path) -> None:
    assert run(planted, sys.executable, "-c", "import mlx").returncode == 0
    assert ran(planted) == {"mlx"}


@pytest.mark.parametrize("arguments", [("--help",), ("doctor", "--model", "demo")], ids=" ".join)
def test_nor_is_one_where_a_module_is_started_by_its_name(
    planted: Path, arguments: tuple[str, ...]
) -> None:
    done = run(planted, *ENTRIES["module"], *arguments)
    assert ran(planted) == set()
    assert done.returncode in (0, 1), done.stderr


def test_nor_is_a_file_that_is_called_as_the_program_is(planted: Path) -> None:
    own = planted / "mh_batch.py"
    own.write_text(RUN.format(mark=str(planted / "ran")))
    try:
        done = run(planted, *ENTRIES["script"], "doctor", "--model", "demo")
    finally:
        own.unlink()
    assert ran(planted) == set()
    assert done.returncode == 0, done.stdout


def test_nor_is_one_by_the_server_of_explore(planted: Path) -> None:
    pytest.importorskip("datasette")
    process = subprocess.Popen(
        [str(SCRIPT), "explore", "--port", "0"], cwd=planted, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert any("the database is at" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=LIMIT)
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)
    assert ran(planted) == set()
