"""The README and `docs/` are true: every command prints that, every link leads somewhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command_line import MAIN
from helpers.documents import PAGES, TEXTS, Step, steps
from helpers.forks import Forks
from helpers.native_model import native_model
from helpers.paths import ROOT
from helpers.small_models import CHATML

EXAMPLES = ROOT / "engine" / "demo" / "recipes"
RECIPE_PAGE = "docs/recipes.md"
LINKED = (*PAGES, "CONTRIBUTING.md")

# what a clock is in: the words are compared, the figures are not
TIMED = ("mh-batch status", "--check", "tokens_per_second")
# how many lines these print depends on the speed of the machine
PACED = "mh-batch work"
# what is installed is tried by `make dist`
INSTALLING = ("pip install .", "uv tool install .")

RECIPES = {part.partition("\n")[0]: steps(part) for part in TEXTS[RECIPE_PAGE].split("\n## ")[1:]}
# all pages but the recipes are one session in one folder, which the README begins
STEPS = [step for page in PAGES if page != RECIPE_PAGE for step in steps(TEXTS[page])]
SESSION = [step for step in STEPS if step.command.startswith("mh-batch ")]
# what a newcomer types is started as a newcomer does
FIRST = steps(TEXTS["README.md"])


# mlx-lm would have a compiler make each step of a training, which takes longer than the training
LORA = "import mlx.core as mx; mx.disable_compile(); from mlx_lm.lora import main; main()"
PROGRAMS = {"mh-batch": MAIN, "mlx_lm.lora": LORA}


def perform(folder: Path, step: Step, forks: Forks | None) -> None:
    """Run a command in `folder`; it goes well, and prints what is shown if anything is."""
    program, *arguments = shlex.split(step.command)
    command = [sys.executable, "-c", PROGRAMS[program], *arguments]
    done = subprocess.run(
        forks.command(command, folder) if forks else command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    if step.shown and not step.command.startswith(PACED):
        printed, shown = done.stdout.split(), step.shown.split()
        if any(part in step.command for part in TIMED):
            printed, shown = figureless(printed), figureless(shown)
        assert printed == shown


def figureless(words: list[str]) -> list[str]:
    return [re.sub(r"\d[\d.,:-]*", "0", word) for word in words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file that the session begins with, as the README shows it."""
    folder = tmp_path_factory.mktemp("readme")
    (given,) = [step.shown for step in STEPS if step.command == "cat convos.jsonl"]
    (folder / "convos.jsonl").write_text(given)
    return folder


@pytest.mark.parametrize("step", SESSION, ids=lambda s: s.command)
def test_every_command_works_in_the_order_it_is_shown_and_prints_that(
    step: Step, folder: Path, forks: Forks
) -> None:
    perform(folder, step, None if step in FIRST else forks)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works_as_it_is_printed(recipe: str, tmp_path: Path, forks: Forks) -> None:
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    if any("student" in step.command for step in RECIPES[recipe]):
        native_model(tmp_path / "student", CHATML)
    assert len(RECIPES[recipe]) >= 3
    for step in RECIPES[recipe]:
        perform(tmp_path, step, forks)


def test_every_example_file_is_in_a_recipe_and_every_recipe_has_one() -> None:
    used = {word for all_of in RECIPES.values() for s in all_of for word in s.command.split()}
    assert {path.name for path in EXAMPLES.iterdir()} <= used
    # a schema is beside the lines of its recipe
    lines = {path.name for path in EXAMPLES.iterdir() if path.suffix != ".json"}
    for recipe in RECIPES.values():
        assert lines & {word for s in recipe for word in s.command.split()}


def test_every_command_that_is_not_run_is_known() -> None:
    others = [step.command for step in STEPS if step not in SESSION]
    made = [command for command in others if command.startswith("make ")]
    assert [c for c in others if c not in (*made, *INSTALLING, "cat convos.jsonl")] == []
    assert made[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("name", LINKED)
def test_every_make_target_that_is_named_exists(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / name).read_text("utf-8")
    assert set(re.findall(r"(?:`|^\$ )make ([\w-]+)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize("name", LINKED)
def test_every_command_in_a_sentence_and_its_options_exist(name: str) -> None:
    from typer.main import get_command

    from mh_batch.worker.cli import app

    group = get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    text = (ROOT / name).read_text("utf-8")
    for line in re.findall(r"`mh-batch ([^`]+)`", text):
        first, *words = line.split()
        command = group if first.startswith("-") else commands[first]
        known = {option for param in command.params for option in param.opts}
        given = {word for word in (first, *words) if word.startswith("--")}
        assert given <= known | {"--install-completion"}, line


def test_the_programs_in_python_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = []
    for program in re.findall(r"```python\n(.*?)```", TEXTS["docs/python.md"], flags=re.DOTALL):
        exec(compile(program, "docs/python.md", "exec"), {"__name__": "program"})
        printed.append(capsys.readouterr().out)
    night, table, loop, after = printed
    assert "line-1 done 17 + 25 = 42\n" in night
    assert "line-2 done 21 + 5 = 26\n" in night
    rows = [line.split() for line in table.splitlines()]
    assert [" ".join(row[1:]) for row in rows[1:]] == [
        "a done 17 + 25 = 42 42",
        "b done 12 + 9 = 21 21",
    ]
    assert loop.splitlines() == ["1 of 2: line-1", "2 of 2: line-2", "all well"]
    assert re.match(r"python 2 \d+ 2\n0 tried again\na \d+\nb \d+\n$", after)


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(TEXTS["README.md"].splitlines()) < 200
    for page in PAGES[1:]:
        assert f"]({page})" in TEXTS["README.md"]


@pytest.mark.parametrize("name", LINKED)
def test_every_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target
