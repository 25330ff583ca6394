"""`--schema FILE`: a JSON schema as the form of every answer."""

import json
from pathlib import Path

import pytest

from helpers.command_line import mh_batch, write_lines
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.errors import InputError, SettingsError
from mh_batch.worker.config import Config, effective_settings
from mh_batch.worker.submission.schema_file import read_schema

SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}}


def file_with(folder: Path, content: str, name: str = "person.json") -> Path:
    path = folder / name
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("title", "file", "name"),
    [
        (None, "person.json", "person"),
        ("Person", "schema.json", "Person"),
        ("A person's name", "schema.json", "A_person_s_name"),
        ("名前", "person v2.schema.json", "person_v2_schema"),
        ("名前", "名前.json", "answer"),
        ("x" * 100, "schema.json", "x" * 64),
        (5, "schema.json", "schema"),
    ],
)
def test_a_schema_is_called_by_its_title_or_its_file(
    title: object, file: str, name: str, tmp_path: Path
) -> None:
    schema = SCHEMA if title is None else {**SCHEMA, "title": title}
    given = read_schema(file_with(tmp_path, json.dumps(schema), file))
    form = effective_settings(Config(), None, [], given).output.form
    assert form == Form("json_schema", schema, name=name)
    assert list(form.value["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "person.json: not JSON: "),
        ("[]", "person.json: a JSON schema is an object"),
        ("[" * 100_000, "person.json: not JSON: "),
        ('{"type": "string", "type": "null"}', "person.json: type: the key is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "person.json: a.b: the key is there twice"),
        ('{"maximum": 1e999}', "person.json: maximum: a number beyond 64 bits"),
        ('{"title": "\ud800"}', "not JSON"),
    ],
    ids=["cut", "array", "deep", "twice", "twice below", "large", "surrogate"],
)
def test_a_file_without_a_schema_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        read_schema(path)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--schema .*none\.json: No such file"):
        read_schema(tmp_path / "none.json")


def test_a_schema_takes_the_place_of_a_form_in_the_configuration_and_none_beside_it() -> None:
    config = Config(settings={"structured_outputs": {"regex": "a"}})
    given = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    assert effective_settings(config, None, [], given).output.structured_outputs is None
    for assignment in ('response_format={"type": "text"}', 'structured_outputs={"regex": "a"}'):
        with pytest.raises(SettingsError, match=r"--schema and --set \w+: which one is the form"):
            effective_settings(Config(), None, [assignment], given)
    with pytest.raises(SettingsError, match="stop: does not go with response_format"):
        effective_settings(Config(), None, ["stop=x"], given)


def test_a_form_is_set_on_the_command_line_and_in_the_configuration(tmp_path: Path) -> None:
    choice = effective_settings(Config(), None, ['structured_outputs={"choice": ["yes", "no"]}'])
    assert choice.output.form == Form("choice", ("yes", "no"))
    (tmp_path / "mh-batch.toml").write_text('[settings]\nstructured_outputs = { regex = "[0-9]" }')
    lines = write_lines(
        tmp_path, [{"prompt": "x", "structured_outputs": {"regex": "a"}, "stop": "b"}]
    )
    told = mh_batch(tmp_path, "submit", lines.name, code=2).stderr
    assert told.startswith("mh-batch: convos.jsonl:1: stop: does not go with structured_outputs")


@pytest.mark.parametrize("command", [("submit",), ("run", "-o", "out.jsonl", "--model", "demo")])
def test_the_option_is_one_of_submit_and_of_run(command: tuple[str, ...], tmp_path: Path) -> None:
    file_with(tmp_path, "[]")
    lines = write_lines(tmp_path, [{"prompt": "x"}])
    told = mh_batch(tmp_path, *command, lines.name, "--schema", "person.json", code=2).stderr
    assert told == "mh-batch: --schema person.json: a JSON schema is an object\n"
