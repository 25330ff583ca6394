"""A line names its model by `model`, and an adapter by `adapter` beside it."""

import json

import pytest

from mh_batch.jobs.errors import BadLine
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.jsonl.lines import read_line
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import Settings


def read(batch_model: str | None, **keys: object) -> JobLine | BadLine:
    line = json.dumps({"prompt": "Hi", **keys}).encode()
    return read_line(1, line, Inherited(Settings(), model=batch_model))


@pytest.mark.parametrize(
    ("batch_model", "keys", "name"),
    [
        (None, {"model": "demo"}, "demo"),
        (None, {"model": "demo", "adapter": None}, "demo"),
        (None, {"model": "demo", "adapter": "adapters/night1"}, "demo//adapters/night1"),
        (None, {"model": "demo//adapters/night1"}, "demo//adapters/night1"),
        (None, {"model": "m/a+b/", "adapter": "/x/c+d/"}, "m/a+b///x/c+d"),
        ("demo", {}, None),
        ("demo", {"adapter": "one"}, "demo//one"),
        ("/models/m//two", {"adapter": "one"}, "/models/m//one"),
    ],
)
def test_a_line_has_the_name_of_both(
    batch_model: str | None, keys: dict[str, object], name: str | None
) -> None:
    read_as = read(batch_model, **keys)
    assert isinstance(read_as, JobLine)
    assert read_as.model == name
    assert read_as.metadata is None


def test_the_body_of_a_line_has_it_too() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "demo", "adapter": "one"}
    read_as = read_line(1, json.dumps({"custom_id": "c", "body": body}).encode())
    assert isinstance(read_as, JobLine)
    assert read_as.model == "demo//one"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"adapter": "one"}, "adapter: for which model? Name it beside it, or with --model"),
        ({"model": "demo//one", "adapter": "two"}, "adapter: the model has one already behind"),
        ({"model": "demo", "adapter": ""}, "adapter: empty"),
        ({"model": "demo", "adapter": "a\nb"}, "adapter: no name of a folder"),
        ({"model": "a\nb"}, "model: no name of a model"),
        ({"model": "demo", "adapter": 5}, "adapter: Expected `str"),
        ({"model": "demo", "adapters": "one"}, "adapters: unknown; did you mean adapter?"),
    ],
)
def test_what_names_no_model_is_refused(keys: dict[str, object], reason: str) -> None:
    refused = read(None, **keys)
    assert isinstance(refused, BadLine)
    assert refused.reason.startswith(reason)
