"""The README is true: every command in it runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
MAIN = "from mh_batch.worker.cli import main; main()"


def shown(command: str) -> str:
    """What the README prints below a command."""
    after = README.split(f"$ {command}\n", 1)[1]
    return re.split(r"^(?:\$ |```)", after, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file that the session begins with, as the README shows it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "convos.jsonl").write_text(shown("cat convos.jsonl"))
    return folder


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("mh-batch ")])
def test_every_command_of_the_readme_works_in_the_order_it_is_shown(
    command: str, folder: Path
) -> None:
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_results_and_show_print_is_what_the_readme_shows(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "show", "sum"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.split() == shown("mh-batch show sum").split()


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [c.removeprefix("make ") for c in COMMANDS if c.startswith("make ")]
    assert targets == ["demo", "test"]
    for target in targets:
        assert f"\n{target}:" in makefile


def test_every_command_and_setting_of_the_program_is_in_the_readme() -> None:
    from typer.main import get_command

    from mh_batch.jobs.settings import NAMES
    from mh_batch.worker.cli import app

    for name in get_command(app).commands:
        assert f"`mh-batch {name}" in README
    for name in NAMES:
        assert f"`{name}`" in README


def test_the_configuration_of_the_readme_is_one_and_has_every_key(tmp_path: Path) -> None:
    from mh_batch.worker.config import CONFIG_NAMES, ENGINE_NAMES, Config, read_config

    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "mh-batch.toml").write_text(text)
    assert read_config(tmp_path) != Config()
    for name in CONFIG_NAMES | ENGINE_NAMES:
        assert re.search(rf"^(\[{name}\]|(# )?{name} =)", text, flags=re.MULTILINE), name


def test_the_cookbook_in_the_readme_is_the_one_of_the_program() -> None:
    from mh_batch.store.cookbook import recipes

    for name, entry in recipes().items():
        assert f"| `{name}` | {entry.about} |" in README
