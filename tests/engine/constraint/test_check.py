"""Which forms are refused at submit, and what is said."""

import re
import time
from typing import Any

import pytest

from mh_batch.engine.constraint.check import MOST_BYTES, check_calls, check_form
from mh_batch.jobs.answers.forms import AUTO, Form, ToolChoice
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.errors import SettingsError

NODE = {"type": "object", "properties": {"next": {"$ref": "#"}}}


def refusal(form: Form) -> str:
    with pytest.raises(SettingsError) as caught:
        check_form(form)
    return str(caught.value)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"not": {"type": "string"}}, "not: not supported (at the top)"),
        ({"properties": {"a/b": {"type": "array", "uniqueItems": True}}},
         "uniqueItems: not supported (at /properties/a~1b)"),
        ({"propertyNames": {"pattern": "a"}}, "propertyNames: not supported"),
        ({"items": {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}},
         "oneOf is supported only where no two alternatives overlap; see anyOf (at /items)"),
        ({"items": {"type": "string", "format": "iban"}},
         "format 'iban' is not supported (at /items)"),
        ({"$ref": "https://example.com/x"},
         "a reference to another document is not supported: https://example.com/x"),
        ({"items": {"$ref": "#/$defs/a"}},
         "$ref #/$defs/a refers to nothing in this schema (at /items)"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"type": "string", "pattern": "(a"}, "unclosed group"),
        ({"$defs": {"n": {"type": "integer", "minimum": 5, "maximum": 3}},
          "properties": {"a": {"items": {"$ref": "#/$defs/n"}, "minItems": 1, "type": "array"}},
          "required": ["a"]},
         "minimum (5) is greater than maximum (3) while processing json-schema:///#/$defs/n "
         "(at /properties/a/items)"),
        ({"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}, "required": ["a"]},
         "look-ahead and look-behind, is not supported (at /properties/a)"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength (5) is greater"),
        ({"type": "strin"}, "not a JSON schema: 'strin'"),
        ({"required": "a"}, "not a JSON schema: 'a' is not of type 'array' (at $.required)"),
        ({"enum": []}, "anyOf is empty"),
        (False, "the schema allows nothing"),
        ({"const": 1, "type": "string"}, "incompatible types"),
        ({"const": "\x01"}, "control characters in const or enum are not supported"),
        ({"minProperties": 2}, "minProperties is not supported above"),
        ({"items": {"proprties": {}}},
         "proprties: not a keyword of JSON Schema; did you mean properties? (at /items)"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "'x-guidance' is not supported"),
        ({"properties": {"a": {"lenient": True}}}, "'lenient' is not supported (at /properties/a)"),
        ({"$ref": "#"}, "it refers to itself without an end"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
         "it refers to itself without an end"),
        (NODE | {"required": ["next"]}, "it refers to itself without an end"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "without an end"),
        ({"enum": ["x" * MOST_BYTES]}, "at most 256 KiB"),
        (nested(900), "the schema is nested too deeply"),
    ],
)  # fmt: skip
def test_a_schema_that_could_not_be_kept_to_is_refused(schema: Any, reason: str) -> None:
    assert reason in refusal(Form("json_schema", schema))


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        NODE,
        {"properties": {"lenient": {"type": "string"}, "x-guidance": {}, "not": {}}},
        {"enum": [{"lenient": True}, "x-guidance"]},
        {"minProperties": 1},
        {"items": {"uniqueItems": False}, "uniqueItems": False},
        {"properties": {"uniqueItems": {"const": False}}, "const": {"uniqueItems": False}},
        {"properties": {"a": {}}, "required": ["a"], "minProperties": 2},
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {"type": ["array", "null"], "items": {"$ref": "#"}, "minItems": 1},
        {"$anchor": "top", "type": "object", "properties": {"a": {"$ref": "#top"}}},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}},
         "$ref": "#/definitions/a"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
         "items": [{"type": "string"}], "minItems": 3},
    ],
)  # fmt: skip
def test_a_schema_that_can_be_kept_to_is_taken(schema: Any) -> None:
    check_form(Form("json_schema", schema))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (Form("regex", ""), "the regular expression is empty"),
        (Form("regex", r"\s*"), "nothing but white space"),
        (Form("regex", "("), "regex parse error: ( ^ error: unclosed group"),
        (Form("regex", "(?=a)b"), "look-around, including look-ahead and look-behind"),
        (Form("regex", r"\bfoo"), "lookarounds not supported"),
        (Form("regex", r"(a)\1"), "backreferences are not supported"),
        (Form("regex", r"(a|b)*a(a|b){4000}c(\w\d){900}"), "past the limits of the parser"),
        (Form("choice", ()), "there are no choices"),
        (Form("choice", ("a", " \n")), "a choice is empty"),
        (Form("grammar", ""), "no start rule found"),
        (Form("grammar", "start: <|end|>"), "a grammar cannot name a token: <|end|>"),
        (Form("grammar", 'start: "a" | A\nA: <[200012]>'), "a grammar cannot name a token"),
        (Form("grammar", "start: <[*]>"), "a grammar cannot name a token: <[*]>"),
        (Form("grammar", "start: @form"), "a grammar cannot refer to another one: @form"),
        (Form("grammar", '%llguidance {"allow_invalid_utf8": true}\nstart: /a/'),
         "a grammar cannot have options of llguidance"),
        (Form("grammar", 'start[temperature=0.5]: "a"'), "a grammar cannot set the temperature"),
        (Form("grammar", 'start: start "a"'), "does not begin with anything"),
        (Form("grammar", "start: x\nx: x"), "does not begin with anything"),
        (Form("grammar", 'start: ""'), "does not begin with anything"),
        (Form("grammar", 'start: "a" b\nb: c'), 'line 2, column 4: unknown name: "c"'),
        (Form("grammar", 'start: %json {"items": {"not": {}}}'),
         "%json: not: not supported (at /items)"),
        (Form("grammar", 'start: %json {"lenient": true}'), "%json: 'lenient' is not supported"),
        (Form("json_object", whitespace_pattern="x*"), "it matches more than white space"),
        (Form("json_object", whitespace_pattern="("), "whitespace_pattern: "),
        (Form("json_schema", {}, name="a b"), "a form cannot be called 'a b'"),
    ],
)  # fmt: skip
def test_a_form_that_could_not_be_kept_to_is_refused(form: Form, reason: str) -> None:
    assert reason in refusal(form)


@pytest.mark.parametrize(
    ("end", "grammar"),
    [
        (False, 'start: "a" start'),
        (False, 'start: "(" start ")"'),
        (False, 'start: x\nx: "a" x | "b" y\n  | "c" x\ny: "c" y'),
        (False, 'start: ("a" start)+ "b"'),
        (False, 'start: "a" x~1..3\nx: "b" [x] start'),
        (False, 'start: "a" x{2,}\nx: "b" x'),
        (False, 'start: "a" B\nB: /a/ & /b/'),
        (False, 'start: x\nx: "a" x // | "b"'),
        (False, 'start: %json {"$ref": "#"}'),
        (False, 'start: "a" %json {"required": ["a"], "properties": {"a": {"$ref": "#"}},'
         ' "type": "object"}'),
        (True, 'start: "a" start # more\n | "b"'),
        (True, 'start: x "b"\nx: "a" x | "|"\nz: "c" z'),
        (True, 'start: ("a" start)* "b"'),
        (True, 'start: "a" x?\nx: "b" x'),
        (True, 'start: "a" x~0..3\nx: "b" x'),
        (True, 'start: "a" [x] x{,2}\nx: "b" x'),
        (True, 'start: "a" B?\nB: /a/ & /b/'),
        (True, 'start: B "x"\nB: ~/a/ & /[ab]*/ & LETTER\n%import common.LETTER'),
        (True, 'start[capture]: "a" (start | "b") -> name\n%ignore / /'),
        (True, 'start: %json {"type": "object"} | "a" start'),
        (True, 'start: set::0x0\nset::_: "a" %if bit_clear(0) | "b" set::set_bit(0)'),
    ],
)  # fmt: skip
def test_a_grammar_that_goes_on_without_an_end_is_refused(grammar: str, end: bool) -> None:
    if end:
        check_form(Form("grammar", grammar))
    else:
        assert re.search("no text that ends|without an end", refusal(Form("grammar", grammar)))


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "<|end|>"',
        "start: /a<b/",
        'start: "a" // <b> @c\n',
        'start: "a" # <b>\n',
        'start: "\\"<a>"',
        '%llguidance {}\nstart: "a"',
        'start: start "a" | "b"',
        'start: temperature\ntemperature: "a"',
    ],
)
def test_a_grammar_may_hold_what_looks_like_a_token_in_its_texts(grammar: str) -> None:
    check_form(Form("grammar", grammar))


def test_a_form_is_looked_at_once() -> None:
    form = Form("choice", tuple(f"choice {number}" for number in range(3000)))
    check_form(form)
    begun = time.perf_counter()
    for _ in range(3):
        check_form(form)
    again = time.perf_counter() - begun
    begun = time.perf_counter()
    check_form(Form("choice", (*form.value, "another")))
    assert again < time.perf_counter() - begun


def tool(name: str, parameters: dict[str, Any] | None, *, strict: bool = True) -> Tool:
    return Tool(FunctionSpec(name, None, parameters, strict))


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ((), ToolChoice("required"), "tool_choice: there are no tools"),
        ((tool("f", None),), ToolChoice("required", "g"), "tool_choice: there is no tool 'g'"),
        ((tool("f", {"type": "array"}),), AUTO, "tool f: parameters are of type object"),
        ((tool("f", {"not": {}}),), AUTO, "tool f: parameters: not: not supported (at the top)"),
    ],
)
def test_calls_that_could_not_be_bound_are_refused(
    tools: tuple[Tool, ...], choice: ToolChoice, reason: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_calls(tools, choice)
    assert str(caught.value) == reason


def test_calls_that_can_be_bound_are_taken() -> None:
    tools = (
        tool("f", None),
        tool("g", {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}}),
        tool("h", {"not": {}}, strict=False),
    )
    check_calls(tools, AUTO)
    check_calls(tools, ToolChoice("required", "h"))
    check_calls((), ToolChoice("none"))
