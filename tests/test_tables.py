"""The tables of `docs/` are those of the program: options, settings, formats, schema, folders."""

import re
from pathlib import Path

from helpers.documents import TEXTS, first_cells, section
from helpers.paths import ROOT
from mh_batch.store import open_store

FORMATS, DATABASE, GUIDE = "docs/formats.md", "docs/database.md", "docs/guide.md"


def test_every_command_and_each_of_its_options_is_there() -> None:
    from typer.main import get_command

    from mh_batch.worker.cli import app

    commands = TEXTS["docs/commands.md"]
    everywhere = {"--db", "--model", "--adapter", "--help"}
    found = {
        name: {option for param in command.params for option in param.opts}
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    }
    # its row says that it has those of the two others
    found["run"] -= found["submit"] | found["work"]
    for name, options in found.items():
        (row,) = re.findall(rf"^\| `mh-batch {name}\b.*$", commands, flags=re.MULTILINE)
        for option in {o for o in options if o.startswith("--")} - everywhere:
            short = {"--output": "-o"}.get(option, option)
            assert short in row or f"`{short}`" in commands, f"{name} {option}"


def test_every_exit_code_is_there() -> None:
    from mh_batch.jobs import errors
    from mh_batch.worker.output.interruption import STOPPED

    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    rows = re.findall(r"^\| (\d+) \|", section("docs/commands.md", "Exit codes"), re.MULTILINE)
    assert [int(row) for row in rows] == sorted({0, STOPPED, *codes})


def test_every_setting_is_there_with_its_built_in_value() -> None:
    from mh_batch.jobs.settings import GROUPS, NAMES, Settings

    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", section(FORMATS, "Settings"), re.MULTILINE))
    assert rows.keys() == NAMES
    built_in = Settings()
    for name, group in GROUPS.items():
        value = getattr(getattr(built_in, group), name)
        assert rows[name] == ("none" if value is None else str(value)), name


def test_every_profile_is_there_with_its_settings() -> None:
    from mh_batch.jobs.settings import PROFILES

    profiles = section(FORMATS, "Settings").partition("| Profile |")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", profiles, re.MULTILINE))
    assert rows.keys() == PROFILES.keys()
    for name, values in PROFILES.items():
        said = {key: int(value) for key, value in re.findall(r"`(\w+)` (\d+)", rows[name])}
        assert said == values


def test_every_shape_of_a_line_is_there() -> None:
    from mh_batch.jobs.jsonl.fields import SHAPES

    for key in (*SHAPES, "instruction"):
        assert f"| `{key}` |" in section(FORMATS, "What goes in")
        assert f'"{key}": ' in section(GUIDE, "Write the lines")


def test_every_name_of_another_tool_is_there_with_what_becomes_of_it() -> None:
    from mh_batch.jobs.foreign.names import FOREIGN

    names = section(FORMATS, "What goes in").partition("\n### Names of other tools\n")[2]
    table = names.partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(n.name, f"{n.of} | {n.fate} | {n.use}".rstrip()) for n in FOREIGN.values()]


def test_every_format_of_the_results_is_there() -> None:
    from mh_batch.jobs.results.formats import FORMATS as FORMS

    for name in FORMS:
        assert f"| `{name}` |" in section(FORMATS, "What comes out")
        assert f"`{name}`" in section(GUIDE, "Results")


def test_every_end_of_a_job_and_every_reason_for_a_retry_is_there() -> None:
    from mh_batch.jobs.status import FINISHED
    from mh_batch.worker.controller.retry_policy import RetryReason

    assert set(first_cells(section(GUIDE, "How a job ends"))) == set(FINISHED)
    assert set(first_cells(section(GUIDE, "Retries"))) == set(RetryReason)


def test_the_configuration_is_one_and_has_every_key(tmp_path: Path) -> None:
    from mh_batch.worker.config import CONFIG_NAMES, ENGINE_NAMES, Config, read_config

    (text,) = re.findall(r"```toml\n(.*?)```", "".join(TEXTS.values()), flags=re.DOTALL)
    (tmp_path / "mh-batch.toml").write_text(text)
    assert read_config(tmp_path) != Config()
    for name in CONFIG_NAMES | ENGINE_NAMES:
        assert re.search(rf"^(\[{name}\]|(# )?{name} =)", text, flags=re.MULTILINE), name


def test_every_name_and_option_of_the_python_interface_is_there() -> None:
    import mh_batch
    from mh_batch import store

    page = TEXTS["docs/python.md"]
    names = {f"mh_batch.{name}" for name in mh_batch.__all__}
    names |= {f"mh_batch.store.{name}" for name in store.__all__}
    assert set(first_cells(page)) == names
    (options,) = re.findall(r"^The options are (.*?)\.\n", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", options)) == set(mh_batch.Options.__struct_fields__)


def test_every_argument_of_submit_is_there() -> None:
    import inspect

    import mh_batch

    page = section("docs/python.md", "Tables in, tables out")
    names = set(inspect.signature(mh_batch.submit).parameters) - {"db", "conversations"}
    assert names <= set(re.findall(r"`(\w+)`", page))
    progress = section("docs/python.md", "While it runs")
    assert set(mh_batch.Progress.__struct_fields__) <= set(re.findall(r"`(\w+)`", progress))


def test_every_scenario_of_the_bench_is_there() -> None:
    from mh_batch.worker.bench.run import SCENARIOS

    assert first_cells(section("docs/performance.md", "What is measured")) == list(SCENARIOS)


def test_the_cookbook_is_the_one_of_the_program() -> None:
    from mh_batch.store.reports.query import recipes

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section(DATABASE, "Cookbook"), re.MULTILINE)
    assert rows == [(name, entry.about) for name, entry in recipes().items()]


def test_the_diagram_is_the_schema(tmp_path: Path) -> None:
    text = TEXTS[DATABASE]
    (diagram,) = re.findall(r"```mermaid\nerDiagram\n(.*?)```", text, flags=re.DOTALL)
    drawn = {
        table: [tuple(line.split(maxsplit=2)) for line in body.strip().splitlines()]
        for table, body in re.findall(r"^    (\w+) \{\n(.*?)^    \}", diagram, re.M | re.S)
    }
    lines = set(re.findall(r"^    (\w+) \|\|--o[|{] (\w+) : (\w+)$", diagram, re.MULTILINE))
    db = open_store(tmp_path / "mh-batch.db")
    tables = {name for name in db.table_names() if not name.startswith(("sqlite_", "_sqlite_"))}
    assert drawn.keys() == tables
    keys = {
        (key.other_table, name, key.column)
        for name in tables
        for key in db.table(name).foreign_keys
    }
    assert lines == keys
    for name in tables:
        foreign = {column for _, table, column in keys if table == name}
        marks: dict[str, set[str | None]] = {"PK": set(db.table(name).pks), "FK": foreign}
        columns = []
        for column in db[name].columns:
            of = ", ".join(mark for mark, names in marks.items() if column.name in names)
            columns.append((column.type, column.name, of) if of else (column.type, column.name))
        assert drawn[name] == columns, name
    for name in (*tables, *db.view_names()):
        assert f"| `{name}` |" in text
    db.close()


def test_every_folder_is_on_the_map_and_every_path_named_exists() -> None:
    page = TEXTS["docs/architecture.md"]
    tops = ("jobs", "store", "engine", "worker")
    inside = {path.relative_to(ROOT) for top in tops for path in (ROOT / top).glob("*/")}
    folders = {f"{path}/" for path in inside if path.name != "__pycache__"}
    named = set(first_cells(section("docs/architecture.md", "Folders")))
    # a folder inside these may be named as well; the loop below sees that it exists
    assert named >= folders | {f"{top}/" for top in tops}
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for path in re.findall(r"`((?:jobs|store|engine|worker|tests)/[\w/.]*)`", page + contributing):
        assert (ROOT / path).exists(), path
