"""`mh_batch.submit` takes what the command takes, and its errors name arguments."""

import datetime
import inspect
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from mh_batch import submit
from mh_batch.jobs.errors import BadLines, InputError
from mh_batch.store import open_reader
from mh_batch.worker.api.words import in_python
from mh_batch.worker.cli import app

ROWS = [{"q": f"Question {n}", "k": n} for n in range(1, 7)]


def found(db: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(open_reader(db)) as reader:
        return [tuple(row) for row in reader.execute(sql)]


def test_every_option_of_the_command_is_an_argument() -> None:
    command = get_command(app).commands["submit"]  # type: ignore[attr-defined]
    names = {
        option.removeprefix("--").replace("-", "_") for p in command.params for option in p.opts
    }
    # the first two are positional; a dry run is a command's
    elsewhere = {"files", "db", "help", "check", "trial", "set"}
    assert names - elsewhere <= set(inspect.signature(submit).parameters)


def test_options_make_lines_of_what_a_program_has(tmp_path: Path) -> None:
    db, schema = tmp_path / "a.db", {"type": "object", "title": "reply"}
    submitted = submit(
        db,
        ROWS,
        prompt="Say: {{q}}",
        map={"custom_id": "q", "metadata": ["k"]},
        system="Be short.",
        n=2,
        max_tokens=7,
        temperature=0.5,
        schema=schema,
        limit=4,
        sample=2,
        seed=1,
        repeat=2,
        order="prefix",
        priority=3,
        model="demo",
        override_model=True,
    )
    assert submitted.jobs == 4
    ids = [row[0] for row in found(db, "select custom_id from jobs order by id")]
    assert [name.rpartition("-")[2] for name in ids] == ["1", "2", "1", "2"]
    assert {name[:9] for name in ids} <= {"Question " for _ in ids}
    request = json.loads(found(db, "select request from jobs")[0][0])
    assert request["messages"][0]["content"] == "Be short."
    assert request["messages"][1]["content"].startswith("Say: Question")
    assert request["n"] == 2
    ((settings, priority, model),) = found(db, "select settings, priority, model from batches")
    sampling = json.loads(settings)["sampling"]
    assert (sampling["max_tokens"], sampling["temperature"]) == (7, 0.5)
    form = json.loads(settings)["output"]["response_format"]["json_schema"]
    assert (form["name"], form["schema"]) == ("reply", schema)
    assert (priority, model) == (3, "demo")
    assert all(key != 0 for (key,) in found(db, "select claim_key from jobs"))


def test_a_template_and_a_schema_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "ask.jinja").write_text("Repeat {{q}}.")
    (tmp_path / "reply.json").write_text('{"type": "object"}')
    submit(tmp_path / "a.db", ROWS, template=tmp_path / "ask.jinja", schema=tmp_path / "reply.json")
    request = json.loads(found(tmp_path / "a.db", "select request from jobs")[0][0])
    assert request["messages"][0]["content"] == "Repeat Question 1."


def test_bad_lines_are_left_out_when_that_is_asked_for(tmp_path: Path) -> None:
    lines: list[Any] = ["Hello", {"prompt": 5}]
    submitted = submit(tmp_path / "a.db", lines, skip_bad=True)
    assert (submitted.jobs, submitted.rejected, submitted.rejects) == (1, 1, None)
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": 5}\n')
    submitted = submit(tmp_path / "a.db", tmp_path / "in.jsonl", skip_bad=True)
    assert submitted.rejects == tmp_path / "in.jsonl.rejected.jsonl"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"limit": 0}, "limit: must be a number of at least 1, got 0"),
        ({"n": True}, "n: must be a number of at least 1, got True"),
        ({"seed": 3}, 'seed=: is for sample= only; settings={"seed": N} is the batch\'s'),
        ({"map": {"promt": "q"}}, 'map={"promt": "q"}: promt is no key of a line; did you mean'),
        ({"prompt": "{{q}}", "template": "x.jinja"}, "prompt= and template=: give one of them"),
        ({"prompt": "Hello"}, "prompt=: uses no column"),
        ({"order": "random"}, "order 'random': must be one of submission, prefix"),
        ({"override_model": True}, "override_model=True: name the model with model="),
        ({"schema": {}, "settings": {"response_format": None}}, "schema and response_format"),
        ({}, 'map={"prompt": "q"} says which one to ask'),
    ],
)
def test_an_argument_that_cannot_be_is_named_as_python_has_it(
    options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        submit(tmp_path / "a.db", ROWS, **options)
    assert told in str(error.value)
    assert "--" not in str(error.value)


def test_only_options_of_ours_are_renamed() -> None:
    assert in_python("a--again: --other, --again-and, `x --set max_tokens=80`") == (
        'a--again: --other, --again-and, `x settings={"max_tokens": 80}`'
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32(1.5), "meta.score[1]: cannot be JSON: a numpy.float32; use its tolist()"),
        (np.array([1, 2]), "meta.score[1]: cannot be JSON: a numpy.ndarray; use its tolist()"),
        (
            pd.Timestamp("2026-01-01"),
            "score[1]: cannot be JSON: a pandas.Timestamp; use its isoformat()",
        ),
        (object(), "meta.score[1]: cannot be JSON: Encoding objects of type object"),
        (1j, "meta.score[1]: cannot be JSON: "),
    ],
)
def test_a_value_that_cannot_be_json_is_named_by_its_key(
    value: Any, told: str, tmp_path: Path
) -> None:
    line = {"prompt": "Hello", "meta": {"score": [1, value]}}
    with pytest.raises(InputError) as error:
        submit(tmp_path / "a.db", ["Hello", line])
    assert str(error.value).startswith("python:2: ")
    assert told in str(error.value)
    assert not (tmp_path / "a.db").exists()


def test_times_of_python_are_texts(tmp_path: Path) -> None:
    submit(tmp_path / "a.db", [{"prompt": "Hello", "day": datetime.date(2026, 1, 2)}])
    assert found(tmp_path / "a.db", "select metadata from jobs") == [('{"day":"2026-01-02"}',)]


def test_bad_lines_say_so_with_arguments(tmp_path: Path) -> None:
    with pytest.raises(BadLines, match=r'map=\{"prompt": "text"\}'):
        submit(tmp_path / "a.db", [{"text": "Hello"}])
