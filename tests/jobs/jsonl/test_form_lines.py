"""The form of an answer in a line: taken in the shapes of OpenAI and vLLM, or refused."""

import json
from typing import Any

import pytest

from mh_batch.jobs.answers.forms import Form, Output
from mh_batch.jobs.errors import BadLine, SettingsError
from mh_batch.jobs.jsonl.line_settings import BUILT_IN, Checks, Inherited
from mh_batch.jobs.jsonl.lines import read_line
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import Settings, apply

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "get_weather"}}


def read(line: dict[str, Any], inherited: Inherited = BUILT_IN) -> JobLine | BadLine:
    return read_line(7, json.dumps(line).encode(), inherited)


def refusal(line: dict[str, Any], **batch: Any) -> str:
    bad = read(line, Inherited(apply(Settings(), batch)))
    assert isinstance(bad, BadLine), bad
    return bad.reason


def effective(line: dict[str, Any], **batch: Any) -> Output:
    """What the job of a line is asked for, in a batch with these settings."""
    settings = apply(Settings(), batch)
    job = read(line, Inherited(settings))
    assert isinstance(job, JobLine), job
    return apply(settings, job.request.settings).output


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"response_format": BY_SCHEMA}, Form("json_schema", SCHEMA, name="person")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "p",
                        "description": "A person.",
                        "strict": True,
                        "schema": SCHEMA,
                    },
                }
            },
            Form("json_schema", SCHEMA, name="p", description="A person."),
        ),
        ({"response_format": {"type": "json_object"}}, Form("json_object")),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": None}, None),
        ({"structured_outputs": {"json": SCHEMA}}, Form("json_schema", SCHEMA)),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, Form("json_schema", SCHEMA)),
        ({"structured_outputs": {"regex": "[ab]+"}}, Form("regex", "[ab]+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Form("choice", ("a", "b"))),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Form("grammar", 'start: "a"')),
        (
            {"structured_outputs": {"json_object": True, "whitespace_pattern": " ?"}},
            Form("json_object", whitespace_pattern=" ?"),
        ),
    ],
)
def test_a_form_is_taken_in_the_shape_of_openai_or_of_vllm(
    settings: dict[str, Any], form: Form | None
) -> None:
    assert effective({"prompt": "x", **settings}).form == form
    assert effective({"body": {"messages": HI, **settings}}).form == form
    assert effective({"prompt": "x"}, **settings).form == form


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"response_format": {"type": "xml"}}, "response_format: Invalid enum value 'xml'"),
        ({"response_format": {"type": "json_schema"}}, "response_format: json_schema.schema is"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"schema": SCHEMA}}},
            "response_format: json_schema does not go with type json_object",
        ),
        (
            {"response_format": {**BY_SCHEMA, "schema": SCHEMA}},
            "response_format: Object contains unknown field `schema`",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format: Expected `str` matching regex",
        ),
        (
            {"response_format": BY_SCHEMA, "structured_outputs": {"regex": "a"}},
            "response_format and structured_outputs: which one is the form?",
        ),
        ({"structured_outputs": {}}, "structured_outputs: exactly one of json, regex, choice"),
        (
            {"structured_outputs": {"regex": "a", "choice": ["a"]}},
            "structured_outputs: exactly one of json, regex, choice",
        ),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json: not JSON"),
        (
            {"structured_outputs": {"regex": "a", "whitespace_pattern": " "}},
            "structured_outputs: whitespace_pattern is for JSON only",
        ),
        ({"guided_json": SCHEMA}, 'guided_json: not supported: write structured_outputs={"json"'),
        ({"guided_regex": "a"}, 'guided_regex: not supported: write structured_outputs={"regex"'),
        ({"guided_choice": ["a"]}, "guided_choice: not supported: write structured_outputs="),
        ({"guided_grammar": "a"}, "guided_grammar: not supported: write structured_outputs="),
        ({"guided_decoding_backend": "x"}, "guided_decoding_backend: not supported: structured_"),
        ({"response_format": BY_SCHEMA, "stop": "\n"}, "stop: does not go with response_format"),
        ({"tool_choice": "always"}, "tool_choice: one of auto, none, required, got 'always'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice: Object missing required field"),
        ({"tool_choice": "required"}, "tool_choice: required, but there are no tools"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice: f, but there are no tools",
        ),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            "tool_choice: no tool is called weather; did you mean get_weather?",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_form_that_is_none_is_refused_with_field_and_reason(
    settings: dict[str, Any], reason: str
) -> None:
    assert refusal({"prompt": "x", **settings}).startswith(reason)
    assert refusal({"body": {"messages": HI, **settings}}).startswith(f"body.{reason}")


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_choice_that_forces_no_call_needs_no_tools(choice: str) -> None:
    assert effective({"prompt": "x", "tool_choice": choice}).tool_choice == choice


def test_a_named_function_may_be_one_that_is_declared() -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    line = {"prompt": "x", "tools": [TOOL], "tool_choice": named}
    assert isinstance(read(line), JobLine)


def test_a_call_that_the_batch_asks_for_needs_tools_in_every_line() -> None:
    reason = refusal({"prompt": "x"}, tool_choice="required")
    assert reason == "tool_choice: required, but there are no tools (the batch's tool_choice)"
    assert effective({"prompt": "x", "tools": [TOOL]}, tool_choice="required").form is None
    effective({"prompt": "x", "tool_choice": "auto"}, tool_choice="required")


def test_the_form_of_a_line_takes_the_place_of_that_of_its_batch_in_either_spelling() -> None:
    regex = {"regex": "[ab]"}
    of_line = effective({"prompt": "x", "structured_outputs": regex}, response_format=BY_SCHEMA)
    assert (of_line.form, of_line.response_format) == (Form("regex", "[ab]"), None)
    of_line = effective({"prompt": "x", "response_format": BY_SCHEMA}, structured_outputs=regex)
    assert of_line.form == Form("json_schema", SCHEMA, name="person")


def test_a_line_can_be_free_where_its_batch_has_a_form() -> None:
    free = {"prompt": "x", "response_format": {"type": "text"}}
    assert effective(free, structured_outputs={"regex": "a"}).form is None
    assert (
        effective({"prompt": "x", "response_format": None}, response_format=BY_SCHEMA).form is None
    )


def test_null_does_not_take_away_a_form_of_the_batch_in_the_other_spelling() -> None:
    line = {"prompt": "x", "response_format": None}
    assert effective(line, structured_outputs={"regex": "a"}).form == Form("regex", "a")


def test_a_form_and_stop_do_not_go_together_wherever_they_stand() -> None:
    reason = refusal({"prompt": "x", "stop": "\n"}, response_format=BY_SCHEMA)
    assert reason.startswith("stop: does not go with response_format")
    reason = refusal({"prompt": "x", "structured_outputs": {"regex": "a"}}, stop="\n")
    assert reason.startswith("structured_outputs: does not go with stop")
    assert effective({"prompt": "x", "response_format": BY_SCHEMA, "stop": []}, stop="\n").form
    # `null` counts as missing: it takes away only limits
    reason = refusal({"prompt": "x", "response_format": BY_SCHEMA, "stop": None}, stop="\n")
    assert reason.startswith("response_format: does not go with stop")


def test_the_check_of_forms_is_asked_once_for_all_lines_that_say_the_same() -> None:
    asked: list[Output] = []
    inherited = Inherited(Settings(), Checks(asked.append))
    large = {"type": "object", "properties": {f"key{n}": {"type": "null"} for n in range(500)}}
    for schema in (SCHEMA, large):
        form = {"type": "json_schema", "json_schema": {"schema": schema}}
        for number in range(20):
            read({"custom_id": f"{number}", "prompt": "x", "response_format": form}, inherited)
    assert len(asked) == 2
    read({"prompt": "x", "temperature": 0.5}, inherited)
    assert len(asked) == 2
    for number in range(20):
        rules = {"accept": {"json_schema": large}}
        read({"custom_id": f"{number}", "prompt": "x", **rules}, inherited)
    assert len(asked) == 3


def test_a_form_that_the_check_refuses_is_refused_under_its_name_in_the_line() -> None:
    def refuse(output: Output) -> None:
        raise SettingsError(f"{output.form_field}: cannot be kept to")

    inherited = Inherited(Settings(), Checks(refuse))
    line = {"body": {"messages": HI, "structured_outputs": {"json": SCHEMA}}}
    bad = read(line, inherited)
    assert isinstance(bad, BadLine)
    assert bad.reason == "body.structured_outputs.json: cannot be kept to"
    bad = read({"prompt": "x", "response_format": BY_SCHEMA}, inherited)
    assert isinstance(bad, BadLine)
    assert bad.reason == "response_format.json_schema.schema: cannot be kept to"
