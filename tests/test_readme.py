"""The README and the references beside it are true: every command in them runs and prints that."""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.command_line import MAIN, mh_batch
from mh_batch.store import open_store
from mh_batch.store.lock import worker_lock

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FORMATS = (ROOT / "jobs" / "README.md").read_text()
DATABASE = (ROOT / "store" / "README.md").read_text()
EXAMPLES = ROOT / "engine" / "demo" / "recipes"

# what a clock is in: the words are compared, the figures are not
TIMED = ("mh-batch status", "--check", "tokens_per_second")
# how many lines it prints depends on the speed of the machine
PACED = "mh-batch work"


class Step(NamedTuple):
    """A command as a document has it, and what is printed below it."""

    command: str
    shown: str


def section(text: str, heading: str) -> str:
    """The text under a heading of the second level."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def steps(text: str) -> list[Step]:
    """The commands of the console blocks in a text, in order."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append(Step(command, shown))
    return found


RECIPES = {
    part.partition("\n")[0]: steps(part) for part in section(README, "Recipes").split("\n### ")[1:]
}
SESSION = steps(README.replace(section(README, "Recipes"), "")) + steps(DATABASE)


def perform(folder: Path, step: Step) -> None:
    """Run a command in `folder`; it goes well, and prints what is shown if anything is."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *shlex.split(step.command)[1:]],
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
    (given,) = [step.shown for step in SESSION if step.command == "cat convos.jsonl"]
    (folder / "convos.jsonl").write_text(given)
    return folder


@pytest.mark.parametrize(
    "step", [s for s in SESSION if s.command.startswith("mh-batch ")], ids=lambda s: s.command
)
def test_every_command_works_in_the_order_it_is_shown_and_prints_that(
    step: Step, folder: Path
) -> None:
    perform(folder, step)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works_as_it_is_printed(recipe: str, tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    assert len(RECIPES[recipe]) >= 3
    for step in RECIPES[recipe]:
        perform(tmp_path, step)


def test_every_example_file_is_in_a_recipe_and_every_recipe_has_one() -> None:
    used = {word for all_of in RECIPES.values() for s in all_of for word in s.command.split()}
    assert {path.name for path in EXAMPLES.glob("*.jsonl")} <= used
    assert len(RECIPES) == len(list(EXAMPLES.glob("*.jsonl")))


def test_the_program_in_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "line-1 done 17 + 25 = 42 None" in printed
    assert "line-2 done 21 + 5 = 26 talk" in printed
    assert (tmp_path / "night.db").is_file()


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [s.command.removeprefix("make ") for s in SESSION if s.command.startswith("make ")]
    assert targets == ["demo", "test"]
    for target in targets:
        assert f"\n{target}:" in makefile


def test_every_command_and_each_of_its_options_is_there() -> None:
    from typer.main import get_command

    from mh_batch.worker.cli import app

    commands = section(README, "Commands")
    everywhere = {"--db", "--model", "--help"}
    as_in_submit_and_work = {"run": {"--profile", "--set", "--order", "--format", "--artifacts"}}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        (row,) = re.findall(rf"^\| `mh-batch {name}\b.*$", commands, flags=re.MULTILINE)
        options = {option for param in command.params for option in param.opts}
        known = everywhere | as_in_submit_and_work.get(name, set())
        for option in {o for o in options if o.startswith("--")} - known:
            short = {"--output": "-o"}.get(option, option)
            assert short in row or f"`{short}`" in commands, f"{name} {option}"


def test_every_setting_is_there_with_its_built_in_value() -> None:
    from mh_batch.jobs.settings import GROUPS, NAMES, Settings

    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section(FORMATS, "Settings"), re.MULTILINE))
    assert rows.keys() == NAMES
    built_in = Settings()
    for name, group in GROUPS.items():
        value = getattr(getattr(built_in, group), name)
        assert rows[name] == ("none" if value is None else str(value)), name


def test_every_shape_of_a_line_is_there() -> None:
    from mh_batch.jobs.jsonl.shapes import SHAPES

    for key in (*SHAPES, "instruction"):
        assert f"| `{key}` |" in section(FORMATS, "What goes in")
        assert f'"{key}": ' in section(README, "What goes in")


def test_every_format_of_the_results_is_there() -> None:
    from mh_batch.jobs.results.formats import FORMATS as FORMS

    for name in FORMS:
        assert f"| `{name}` |" in section(FORMATS, "What comes out")
        assert f"`{name}`" in section(README, "The morning after")


def test_the_configuration_is_one_and_has_every_key(tmp_path: Path) -> None:
    from mh_batch.worker.config import CONFIG_NAMES, ENGINE_NAMES, Config, read_config

    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "mh-batch.toml").write_text(text)
    assert read_config(tmp_path) != Config()
    for name in CONFIG_NAMES | ENGINE_NAMES:
        assert re.search(rf"^(\[{name}\]|(# )?{name} =)", text, flags=re.MULTILINE), name


def test_the_cookbook_is_the_one_of_the_program() -> None:
    from mh_batch.store.reports.cookbook import recipes

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section(DATABASE, "Cookbook"), re.MULTILINE)
    assert rows == [(name, entry.about) for name, entry in recipes().items()]


def test_the_diagram_is_the_schema(tmp_path: Path) -> None:
    (diagram,) = re.findall(r"```mermaid\nerDiagram\n(.*?)```", DATABASE, flags=re.DOTALL)
    drawn = {
        table: [tuple(line.split(maxsplit=2)) for line in body.strip().splitlines()]
        for table, body in re.findall(r"^    (\w+) \{\n(.*?)^    \}", diagram, re.M | re.S)
    }
    lines = set(re.findall(r"^    (\w+) \|\|--o[|{] (\w+) : (\w+)$", diagram, re.MULTILINE))
    db = open_store(tmp_path / "mh-batch.db")
    tables = {name for name in db.table_names() if not name.startswith(("sqlite_", "_sqlite_"))}
    assert drawn.keys() == tables
    keys = {(key.other_table, name, key.column) for name in tables for key in db[name].foreign_keys}
    assert lines == keys
    for name in tables:
        foreign = {column for _, table, column in keys if table == name}
        marks = {"PK": set(db[name].pks), "FK": foreign}
        columns = []
        for column in db[name].columns:
            of = ", ".join(mark for mark, names in marks.items() if column.name in names)
            columns.append((column.type, column.name, of) if of else (column.type, column.name))
        assert drawn[name] == columns, name
    for name in (*tables, *db.view_names()):
        assert f"| `{name}` |" in DATABASE
    db.close()


ONE = '{"prompt": "Hi"}\n'


def held(folder: Path) -> str:
    mh_batch(folder, "submit", "in.jsonl")
    with worker_lock(folder / "mh-batch.db"):
        return mh_batch(folder, "work", "--model", "demo", code=3).stderr


def changed(folder: Path) -> str:
    mh_batch(folder, "submit", "in.jsonl")
    with closing(sqlite3.connect(folder / "mh-batch.db")) as db, db:
        db.execute("INSERT INTO batch_models VALUES (1, 'demo', 'other weights', 'harmony')")
    return mh_batch(folder, "work", "--model", "demo", code=3).stderr


def foreign(folder: Path) -> str:
    (folder / "mh-batch.db").write_text("something else")
    return mh_batch(folder, "status", code=3).stderr


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
FORMED = '{"body": {"messages": [], "response_format": {"type": "json_object"}}}\n'
CAUSES: dict[str, Callable[[Path], str]] = {
    "no database at mh-batch.db": lambda folder: mh_batch(folder, "status", code=3).stderr,
    "names no model; name one with --model": running("work", code=3),
    "no such folder (a hub name looks like": running(
        "work", "--model", "demo", code=3, line='{"prompt": "Hi", "model": "gpt-4o-mini"}\n'
    ),
    "already submitted as batch 1": running("submit", "in.jsonl", code=2),
    "temprature: unknown; did you mean temperature?": submitting(
        '{"prompt": "x", "temprature": 1}'
    ),
    "body.response_format: not supported": submitting(FORMED),
    "no known shape": submitting('{"text": "x"}'),
    "one object a line is needed": submitting('[{"prompt": "x"}]'),
    "unknown key modle; did you mean model?": misspelled,
    "is at this database; wait for it or stop it": held,
    "not an SQLite database": foreign,
    "bring the first weights back, or submit the file again": changed,
    "(prompt_too_long)": running("work", "--model", "demo", code=1, line=LONG),
    "the results would overwrite it": running("results", "-o", "mh-batch.db", code=2),
    "macOS ends long GPU work while the display is on": died_of(
        "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
    ),
    "the GPU had too little memory": died_of(
        "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
    ),
    "a query may only read": running("query", "delete from jobs", code=2),
}


def test_the_messages_of_the_readme_are_those_that_are_tried_here() -> None:
    table = section(README, "When something is wrong")
    assert re.findall(r"^\| `(.+?)` \|", table, flags=re.MULTILINE) == list(CAUSES)


@pytest.mark.parametrize("message", CAUSES)
def test_a_message_of_the_readme_is_one_of_the_program(message: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(ONE)
    assert message in CAUSES[message](tmp_path)


@pytest.mark.parametrize("name", ["README.md", "jobs/README.md", "store/README.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target
