"""Forms that no answer can be kept to are refused at submit, with their line and their field."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mh_batch.jobs.errors import BadLines, SettingsError
from mh_batch.jobs.record import NewBatch
from mh_batch.jobs.settings import Settings, apply
from mh_batch.store.connection import open_store
from mh_batch.worker.submission.submission import Rules, Submitted, submit_stream

HI = [{"role": "user", "content": "Hi"}]
RECURSIVE = {
    "type": "object",
    "properties": {"child": {"$ref": "#"}, "name": {"type": "string"}},
    "required": ["name"],
}


def by_schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def submit(folder: Path, *lines: dict[str, Any], skip_bad: bool = False, **batch: Any) -> Submitted:
    db = open_store(folder / "mh-batch.db")
    stream = io.BytesIO(b"\n".join(json.dumps(line).encode() for line in lines))
    made = NewBatch("b", "b.jsonl", apply(Settings(), batch))
    try:
        return submit_stream(db, stream, made, Rules(skip_bad=skip_bad, rejects=False))
    finally:
        db.close()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (by_schema({"not": {}}), "response_format.json_schema.schema: "),
        (by_schema({"type": "array", "uniqueItems": True}), "response_format.json_schema.schema: "),
        ({"structured_outputs": {"json": {"type": "thing"}}}, "structured_outputs.json: "),
        ({"structured_outputs": {"regex": "(?=a)b"}}, "structured_outputs.regex: "),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice: "),
        ({"structured_outputs": {"grammar": "start: nowhere"}}, "structured_outputs.grammar: "),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_form_that_cannot_be_kept_to_is_refused_in_a_line_and_in_a_batch(
    settings: dict[str, Any], field: str, tmp_path: Path
) -> None:
    lines = ({"prompt": "fine"}, {"body": {"messages": HI, **settings}})
    with pytest.raises(BadLines) as caught:
        submit(tmp_path, *lines)
    assert [line.number for line in caught.value.lines] == [2]
    assert caught.value.lines[0].reason.startswith(f"body.{field}")
    with pytest.raises(SettingsError) as refused:
        submit(tmp_path, {"prompt": "fine"}, **settings)
    assert str(refused.value).startswith(field)


def test_forms_that_can_be_kept_to_are_queued(tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        by_schema(RECURSIVE),
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "[0-9]{4}"}},
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"structured_outputs": {"grammar": 'start: "a"+'}},
    ]
    lines = [{"prompt": "x", **form} for form in forms]
    assert submit(tmp_path, *lines, **by_schema({"type": "object"})).jobs == len(forms)


def test_a_strict_tool_that_cannot_be_kept_to_is_refused(tmp_path: Path) -> None:
    def tool(**more: Any) -> dict[str, Any]:
        function = {"name": "f", "parameters": {"type": "object", "not": {}}, **more}
        return {"type": "function", "function": function}

    lines = [
        {"prompt": "x", "tools": [tool(strict=False)]},
        {"prompt": "x", "tools": [tool(name="g"), tool(strict=True)]},
    ]
    with pytest.raises(BadLines) as caught:
        submit(tmp_path, *lines)
    (bad,) = caught.value.lines
    assert (bad.number, bad.reason.partition(": ")[0]) == (2, "tools[1]")


def test_a_line_with_such_a_form_is_left_out_where_bad_lines_are(tmp_path: Path) -> None:
    bad = {"prompt": "x", "structured_outputs": {"regex": "("}}
    assert submit(tmp_path, {"prompt": "x"}, bad, skip_bad=True).rejected == 1
